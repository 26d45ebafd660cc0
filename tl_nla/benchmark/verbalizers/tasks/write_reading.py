"""What readers of plain words get back of a write: its direction, and which of ten writes it was."""

import random
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.bootstrap import mean_interval
from tl_nla.benchmark.verbalizers.candidates import OPTIONS
from tl_nla.benchmark.verbalizers.leaks import Leak
from tl_nla.benchmark.verbalizers.readers.base import picked
from tl_nla.benchmark.verbalizers.readers.writes import PlainWriteReaders, ReadWrite
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.tasks.reconstruction import BUDGETS
from tl_nla.benchmark.verbalizers.words import Say
from tl_nla.benchmark.verbalizers.writes import GROUP, WriteSubject

_ASKED = (
    ("nearest_write", "Which of ten writes of heads, attentions and MLPs in one text is nearest?"),
    ("nearest_write_of_component", "Which of ten writes of one component in ten texts is nearest?"),
)


def reading_tasks(subject: WriteSubject, plain: PlainWriteReaders) -> list[Task]:
    """FVE at each budget of tokens, which of ten writes of a text, and which of ten writes of the component."""
    few, rows = subject.calibration.rows, subject.test.rows

    def chosen(say: Say, budget: int | None = None) -> ReadWrite:
        return plain.choose(say(few, budget), few)

    def fve(budget: int, say: Say) -> Float[Tensor, " n"]:
        return 1 - plain.errors(chosen(say, budget), say(rows, budget), rows)

    def nearest(choices: _Choices, say: Say) -> Float[Tensor, " n"]:
        said = say(rows)
        told = [said[row] for row in choices.rows]
        return picked(_nearness(plain, chosen(say), told, subject, choices.options), torch.tensor(choices.right))

    parts, asks = (few.name, rows.name), "How much of the write does a plain reader rebuild from {} tokens?"
    tasks = [
        Task(f"write_reconstruction_{budget}", asks.format(budget), partial(fve, budget), rows.document, rows=parts)
        for budget in BUDGETS
    ]
    return [*tasks, *(
        Task(name, asked, partial(nearest, choices), rows.document[choices.rows], 1 / OPTIONS, parts)
        for (name, asked), choices in zip(_ASKED, _all_choices(subject), strict=True) if choices.rows
    )]  # fmt: skip


def write_leaks(subject: WriteSubject, plain: PlainWriteReaders) -> list[Leak]:
    """Guesses from empty words, which every plain reader reads, and from the place."""
    found = []
    for (name, _), choices in zip(_ASKED, _all_choices(subject), strict=True):
        if not choices.rows:
            continue
        count, document = len(choices.rows), subject.test.rows.document[choices.rows]
        guesses = {f"empty words, {kind}": _nearness(plain, read, [""] * count, subject, choices.options)
                   for kind, read in plain.readers.items()}  # fmt: skip
        guesses["first place"] = torch.eye(OPTIONS)[:1].expand(count, -1)
        for test, scores in guesses.items():
            generator = torch.Generator().manual_seed(subject.seed)
            accuracy = mean_interval(picked(scores, torch.tensor(choices.right)), document, generator=generator)
            found.append(Leak(name, test, accuracy))
    return found


@dataclass(frozen=True)
class _Choices:
    """Rows that are asked about, their candidates (rows, too), and the place of the right one."""

    rows: list[int]
    options: list[list[int]]
    right: list[int]


def _all_choices(subject: WriteSubject) -> tuple[_Choices, _Choices]:
    """Of both tasks: the writes of one text, and those of one component."""
    rows = list(range(len(subject.test.rows)))
    text = [[row - row % GROUP + place for place in range(GROUP)] for row in rows]
    return _Choices(rows, text, [row % GROUP for row in rows]), _same_site(subject)


def _nearness(
    plain: PlainWriteReaders, read: ReadWrite, texts: list[str], subject: WriteSubject, options: list[list[int]]
) -> Float[Tensor, "n k"]:
    """How near each candidate is to what the words would mean if its component had written them."""
    rows, wanted = subject.test.rows, plain.beside(subject.test.rows)
    own = [one for candidates in options for one in candidates]
    told = read([text for text in texts for _ in range(OPTIONS)], [rows.sites[one] for one in own])
    missed = (told - wanted[own]).square().sum(1) / wanted[own].square().sum(1).clamp(min=1e-12)
    return 1 - missed.view(-1, OPTIONS)


def _same_site(subject: WriteSubject) -> _Choices:
    """For each write nine of the same component in other texts, where there are so many."""
    rows, found = subject.test.rows, _Choices([], [], [])
    documents = rows.document.tolist()
    for row in range(len(rows)):
        rng = random.Random(f"{subject.seed}/component/{row}")
        others = [other for other in range(len(rows))
                  if rows.sites[other] == rows.sites[row] and documents[other] != documents[row]]  # fmt: skip
        if len(others) >= OPTIONS - 1:
            place, drawn = rng.randrange(OPTIONS), rng.sample(others, OPTIONS - 1)
            found.rows.append(row)
            found.options.append([*drawn[:place], row, *drawn[place:]])
            found.right.append(place)
    return found
