"""Next token: how near is the reader's guess to the model's own prediction?

The reader mixes five guesses. They are how frequent tokens are, the tokens that the words hold (evenly, and by their
order), and what stands behind words such as "next". The last is what a base language model expects behind the words.
The five weights are fitted for each arm on other documents. Five numbers can hold no code.
"""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.likelihood import LikelihoodReader
from tl_nla.benchmark.verbalizers.rows import Material
from tl_nla.benchmark.verbalizers.subject import Subject
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say
from tl_nla.errors import InputError

_CUE = re.compile(r"\b(next|likely|surely|perhaps|predicts?|expects?|continues?)\b[^\w]*", re.IGNORECASE)
_BEHIND = 6
"""Tokens behind a cue that count as its guess."""
_ROUNDS = 60


def next_token_task(subject: Subject, reader: LikelihoodReader) -> Task:
    """Share of the divergence of a guess by frequency that the reader's guess takes away; 1 is the model's own."""
    usual = _frequencies(subject)
    calibration, test = subject.calibration, subject.test
    zero = _divergence(_known(test), usual.log().expand_as(_known(test))).mean()

    def score(say: Say) -> Float[Tensor, " n"]:
        fitted = _guesses(say(calibration.rows), reader, usual)
        weights = mixing_weights(fitted, _known(calibration).exp())
        mixed = torch.matmul(weights, _guesses(say(test.rows), reader, usual))
        return 1 - _divergence(_known(test), mixed.log()) / zero

    return Task(
        "next_token", "How much of the prediction does the reader's guess get right?", score, test.rows.document,
        rows=("calibration", "test"),
    )  # fmt: skip


def mixing_weights(guesses: Float[Tensor, "n k vocab"], wanted: Float[Tensor, "n vocab"]) -> Float[Tensor, " k"]:
    """Weights that make the mixture most likely, by expectation maximisation; the first never falls below 1%."""
    weights = torch.full((guesses.shape[1],), 1 / guesses.shape[1])
    for _ in range(_ROUNDS):
        mixed = torch.matmul(weights, guesses).clamp(min=1e-30)
        weights = weights * torch.matmul(guesses, (wanted / mixed)[..., None]).sum(0)[:, 0]
        weights[0] = weights[0].clamp(min=0.01 * float(weights.sum()))
        weights = weights / weights.sum()
    return weights


def _known(material: Material) -> Float[Tensor, "n vocab"]:
    if material.logprobs is None:
        raise InputError(f"the rows {material.rows.name!r} hold no predictions")
    return material.logprobs


def _frequencies(subject: Subject) -> Float[Tensor, " vocab"]:
    size = _known(subject.test).shape[1]
    tokens = torch.tensor([token for piece in subject.train.following for token in piece])
    counts = tokens.bincount(minlength=size).float() + 0.01
    return counts / counts.sum()


def _guesses(words: Sequence[str], reader: LikelihoodReader, usual: Float[Tensor, " vocab"]) -> Tensor:
    size, kept = len(usual), list(dict.fromkeys(words))
    expected = reader.next_logprobs(kept).exp()[:, :size]
    found = torch.zeros(len(kept), 5, size)
    found[:, 0], found[:, 4, : expected.shape[1]] = usual, expected
    for row, text in enumerate(kept):
        ids = list(dict.fromkeys(reader.tokenizer.encode(text, add_special_tokens=False)))
        found[row, 1] = _spread(ids, [1.0] * len(ids), usual)
        found[row, 2] = _spread(ids, [1 / (place + 1) for place in range(len(ids))], usual)
        cued = _cued(text, reader)
        found[row, 3] = _spread(cued, [1.0] * len(cued), usual)
    place = {text: row for row, text in enumerate(kept)}
    return found[[place[text] for text in words]]


def _cued(text: str, reader: LikelihoodReader) -> list[int]:
    cue = _CUE.search(text)
    if cue is None:
        return []
    # The space in front of a quoted token belongs to it.
    rest = text[cue.end(1) :].lstrip(" :")
    again = _CUE.match(rest)
    rest = rest[again.end(1) :] if again else rest
    return list(reader.tokenizer.encode(rest, add_special_tokens=False))[:_BEHIND]


def _spread(ids: list[int], weights: list[float], usual: Float[Tensor, " vocab"]) -> Float[Tensor, " vocab"]:
    if not ids:
        return usual
    spread = torch.zeros_like(usual).index_add_(0, torch.tensor(ids), torch.tensor(weights))
    return spread / spread.sum()


def _divergence(model: Float[Tensor, "n vocab"], guess: Float[Tensor, "n vocab"]) -> Float[Tensor, " n"]:
    return (model.exp() * (model - guess)).sum(1).double()
