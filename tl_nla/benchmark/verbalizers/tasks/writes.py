"""What an oracle's words are asked: which write it was, what it promotes, and what leaving it out would do."""

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.base import picked
from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, likeness, words_of
from tl_nla.benchmark.verbalizers.readers.ridge import BagReader
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say
from tl_nla.benchmark.verbalizers.writes import GROUP, WriteMaterial, WriteSubject


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
    """How large the effect of leaving the write out is, guessed from the words by a reader of labels."""
    reader = BagReader.fit(subject.train.gold, _effects(subject.train)[:, None])
    effects = _effects(subject.test)
    spread = (effects - effects.mean()).square().mean().clamp(min=1e-9)
    usual = _effects(subject.train).mean()

    def score(say: Say) -> Float[Tensor, " n"]:
        fitted = _effects(subject.calibration)
        guess, known = reader(say(subject.test.rows))[:, 0], reader(say(subject.calibration.rows))[:, 0]
        # How far the arm's words can be trusted is measured on other documents: one number between 0 and 1.
        moved = known - usual
        trust = ((fitted - usual) @ moved / moved.square().sum().clamp(min=1e-9)).clamp(0, 1)
        return (1 - (usual + trust * (guess - usual) - effects).square() / spread).double()

    return Task(
        "skip_effect", "How large is the effect of leaving the write out (share of variance)?", score,
        subject.test.rows.document, rows=(subject.calibration.rows.name, subject.test.rows.name),
    )  # fmt: skip


def _effects(material: WriteMaterial) -> Float[Tensor, " n"]:
    answers = [row.get("skip") for row in material.labelled.answers]
    return torch.tensor([float(one.size or 0) if one is not None else 0.0 for one in answers])
