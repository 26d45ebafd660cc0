"""Reconstruction: how much of the vector readers get back who learnt from plain words, never from the arm's."""

from functools import partial

from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.plain import PlainReaders
from tl_nla.benchmark.verbalizers.subject import Subject
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say
from tl_nla.metrics import normalise, squared_deviations

BUDGETS = (8, 16, 32, 64)


def reconstruction_tasks(subject: Subject, plain: PlainReaders) -> list[Task]:
    """FVE at each budget of tokens with the mean as its zero, and at the largest with zero as its zero."""
    rows = subject.test.rows
    rows_needed = ("calibration", "test")
    few_rows = subject.calibration.rows
    size = float(normalise(rows.acts).square().sum(1).double().mean())
    variance = float(squared_deviations(rows.acts, plain.mean).double().mean())

    def fve(budget: int, say: Say) -> Float[Tensor, " n"]:
        plain.prepare([text for most in BUDGETS for asked in (few_rows, rows) for text in say(asked, most)])
        few, many = say(few_rows, budget), say(rows, budget)
        return 1 - plain.errors(plain.choose(few, few_rows.acts), many, rows.acts)

    def beside_zero(say: Say) -> Float[Tensor, " n"]:
        return 1 - (1 - fve(BUDGETS[-1], say)) * variance / size

    asks = "How much of the vector's variance does a plain reader rebuild from {} tokens?"
    tasks = [
        Task("reconstruction" if budget == BUDGETS[-1] else f"reconstruction_{budget}", asks.format(budget),
             partial(fve, budget), rows.document, rows=rows_needed)
        for budget in BUDGETS
    ]  # fmt: skip
    zero = "How much of the vector does a plain reader rebuild from 64 tokens, zero as baseline?"
    return [*tasks, Task("reconstruction_beside_zero", zero, beside_zero, rows.document, rows=rows_needed)]
