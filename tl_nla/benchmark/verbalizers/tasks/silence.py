"""Silence: vectors that hold nothing must be called unknown, and real ones must not."""

import re

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.subject import Subject
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say

_UNKNOWN = re.compile(
    r"\b(unknown|unclear|nothing|no (?:meaning|information|content|signal)|cannot (?:tell|say)|can't (?:tell|say)|"
    r"not (?:known|clear|sure)|random|noise|meaningless|uninterpretable)\b", re.IGNORECASE,
)  # fmt: skip


def is_silent(text: str) -> bool:
    """Whether words are empty or say that nothing is known."""
    return not re.search(r"\w", text) or bool(_UNKNOWN.search(text))


def silence_task(subject: Subject) -> Task:
    """Share of empty vectors called unknown, minus the share of real ones called so."""
    rows = subject.test.rows
    nothing = empty_rows(rows, subject.train.rows, subject.sizes.silent, subject.seed)

    def score(say: Say) -> Float[Tensor, " n"]:
        real = sum(map(is_silent, say(rows))) / len(rows)
        return torch.tensor([float(is_silent(text)) - real for text in say(nothing)], dtype=torch.float64)

    return Task(
        "silence", "Are noise, the mean and shuffled vectors called unknown?", score, nothing.document,
        rows=("test", "silence"),
    )  # fmt: skip


def empty_rows(rows: Rows, train: Rows, number: int, seed: int) -> Rows:
    """Noise of equal norm, the mean vector, and vectors whose entries are shuffled."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(rows), generator=generator)[:number]
    real = rows.select("silence", chosen)
    noise = torch.randn(real.acts.shape, generator=generator)
    noise = noise * (real.acts.norm(dim=1) / noise.norm(dim=1))[:, None]
    mixed = torch.stack([act[torch.randperm(len(act), generator=generator)] for act in real.acts])
    mean = train.acts.mean(0).expand_as(real.acts)
    return Rows("silence", torch.cat([noise, mean, mixed]), real.past * 3, real.document.repeat(3))
