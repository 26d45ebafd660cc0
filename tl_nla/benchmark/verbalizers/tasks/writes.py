"""What an oracle's words are asked: which write it was, what it promotes, and what leaving it out would do."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.base import picked
from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, likeness, neighbours, words_of
from tl_nla.benchmark.verbalizers.readers.ridge import BagReader
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say
from tl_nla.benchmark.verbalizers.writes import GROUP, WriteMaterial, WriteSubject

_WORDS, _PAIRS = 600, 20
"""What the two readers of effects know: so many words, or so many pairs of neighbours, the most frequent ones."""


def which_write_task(subject: WriteSubject, rarity: Rarity) -> Task:
    """Ten writes of one document, of several heads and positions; candidates are their labels without the component."""
    test = subject.test
    vectors = [rarity.vector(text) for text in test.gold]

    def score(say: Say) -> Float[Tensor, " n"]:
        scores = []
        for row, text in enumerate(say(test.rows)):
            own, first = rarity.vector(text), row - row % GROUP
            scores.append([likeness(own, vectors[first + place]) for place in range(GROUP)])
        return picked(torch.tensor(scores), torch.arange(len(test)) % GROUP)

    return Task(
        "which_write", "Which of ten writes of heads and MLPs in one text was it?", score, test.rows.document,
        1 / GROUP, (test.rows.name,),
    )  # fmt: skip


def promoted_task(subject: WriteSubject) -> Task:
    """Share of the four most promoted words that the words name."""
    test = subject.test
    wanted = [set(words_of(" ".join(label.promoted or ()))) for label in test.labelled.labels]

    def score(say: Say) -> Float[Tensor, " n"]:
        said = [set(words_of(text)) for text in say(test.rows)]
        shares = [len(own & truth) / len(truth) if truth else 0.0 for own, truth in zip(said, wanted, strict=True)]
        return torch.tensor(shares, dtype=torch.float64)

    return Task(
        "promoted_words", "How many of the four most promoted words are told?", score, test.rows.document,
        rows=(test.rows.name,),
    )  # fmt: skip


def skip_task(subject: WriteSubject) -> Task:
    """How large the effect of leaving the write out is, guessed from the words by the reader of labels that suits them.

    One reader knows words, the other one pairs of neighbours, such as "strength two". The first takes every "two" for a
    strength, also where the words are of another style and say "deviation two". Each arm is read by the one that
    guesses the effects of other documents best.
    """
    effects = _effects(subject.train)[:, None]
    words = BagReader.fit(subject.train.gold, effects, _WORDS)
    pairs = BagReader.fit([neighbours(text) for text in subject.train.gold], effects, _PAIRS)
    readers: tuple[Callable[[list[str]], Tensor], ...] = (
        words, lambda texts: pairs([neighbours(text) for text in texts]),
    )  # fmt: skip
    wanted, fitted = _effects(subject.test), _effects(subject.calibration)
    spread = (wanted - wanted.mean()).square().mean().clamp(min=1e-9)
    usual = effects.mean()

    def score(say: Say) -> Float[Tensor, " n"]:
        asked, known = say(subject.test.rows), say(subject.calibration.rows)
        found: list[tuple[float, Any, Tensor]] = []
        for reader in readers:
            moved = reader(known)[:, 0] - usual
            # How far the arm's words can be trusted is measured on other documents: one number between 0 and 1.
            trust = ((fitted - usual) @ moved / moved.square().sum().clamp(min=1e-9)).clamp(0, 1)
            found.append((float((usual + trust * moved - fitted).square().mean()), reader, trust))
        _, reader, trust = min(found, key=lambda one: one[0])
        guess = usual + trust * (reader(asked)[:, 0] - usual)
        return (1 - (guess - wanted).square() / spread).double()

    return Task(
        "skip_effect", "How large is the effect of leaving the write out (share of variance)?", score,
        subject.test.rows.document, rows=(subject.calibration.rows.name, subject.test.rows.name),
    )  # fmt: skip


def _effects(material: WriteMaterial) -> Float[Tensor, " n"]:
    answers = [row.get("skip") for row in material.labelled.answers]
    return torch.tensor([float(one.size or 0) if one is not None else 0.0 for one in answers])
