"""Stability: the same vector is told twice; do the second words belong to the first?"""

import random

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.candidates import OPTIONS
from tl_nla.benchmark.verbalizers.readers.base import picked
from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, likeness
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.subject import Subject
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say

_NOISE = 0.02


def again_rows(subject: Subject) -> Rows:
    """The tested vectors once more, with noise of 2% of their norm: a verbalizer that samples is sampled instead."""
    rows = subject.test.rows
    noise = torch.randn(rows.acts.shape, generator=torch.Generator().manual_seed(subject.seed))
    return rows.with_acts(
        "again", rows.acts + _NOISE * rows.acts.norm(dim=1, keepdim=True) * noise / noise.norm(dim=1, keepdim=True)
    )


def stability_task(subject: Subject, rarity: Rarity) -> Task:
    """The reader picks the second words that go with the first among those of ten vectors of other documents.

    A verbalizer that answers without chance is perfectly stable, so that this can be lost and not won.
    """
    rows, again = subject.test.rows, again_rows(subject)
    documents = rows.document.tolist()
    options, right = [], []
    for row in range(len(rows)):
        rng = random.Random(f"{subject.seed}/again/{row}")
        others = [other for other in range(len(rows)) if documents[other] != documents[row]]
        drawn, place = rng.sample(others, min(OPTIONS - 1, len(others))), rng.randrange(OPTIONS)
        options.append([*drawn[:place], row, *drawn[place:]])
        right.append(options[-1].index(row))

    def score(say: Say) -> Float[Tensor, " n"]:
        first, second = ([rarity.vector(text) for text in say(one)] for one in (rows, again))
        scores = [[likeness(first[row], second[other]) for other in own] for row, own in enumerate(options)]
        return picked(torch.tensor(scores), torch.tensor(right))

    return Task(
        "stability", "Do the words about a vector, told twice, belong together?", score, rows.document, 1 / OPTIONS,
        ("test", "again"),
    )  # fmt: skip
