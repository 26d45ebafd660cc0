"""Leak control: whether a rewriter tells the model more than the edit that was asked for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.data.words import split_words
from tl_nla.errors import InputError
from tl_nla.steering.rewriters import Rewriter


@dataclass(frozen=True)
class Leak:
    """How much texts tell about what the unsteered model says next, one number a prompt.

    Attributes:
        own: share of the words of its own continuation that a text names.
        shuffled: the same against the other prompts' continuations: what any text names by chance.
    """

    own: Float[Tensor, " n"]
    shuffled: Float[Tensor, " n"]

    @property
    def excess(self) -> Float[Tensor, " n"]:
        """What a text tells about its own continuation beyond chance."""
        return self.own - self.shuffled


def _words(text: str) -> set[str]:
    return {word for word, _, _ in split_words(text) if word.isalnum()}


def _share(told: set[str], said: set[str], ignore: Collection[str]) -> float:
    asked = said - set(ignore)
    return len(asked & told) / len(asked) if asked else 0.0


def leak(texts: Sequence[str], continuations: Sequence[str], ignore: Sequence[Collection[str]]) -> Leak:
    """Compare each text with its own and with all other prompts' continuations.

    Raises:
        InputError: for unequal numbers, or fewer than two prompts.
    """
    if not len(texts) == len(continuations) == len(ignore):
        raise InputError(f"{len(texts)} texts, {len(continuations)} continuations, {len(ignore)} sets; give as many")
    if len(texts) < 2:
        raise InputError("a leak is measured against other prompts; give at least two")
    told, said = [_words(text) for text in texts], [_words(text) for text in continuations]
    table = torch.tensor(
        [[_share(one, other, words) for other in said] for one, words in zip(told, ignore, strict=True)],
        dtype=torch.float64,
    )
    own = table.diagonal()
    return Leak(own, (table.sum(1) - own) / (len(texts) - 1))


def only(sentence: str) -> Rewriter:
    """A rewriter that sees the requested attribute and nothing of the explanation."""
    return lambda text: sentence


def shuffled(texts: Sequence[str], seed: int = 0) -> list[str]:
    """Texts dealt to other prompts: none keeps its own.

    Raises:
        InputError: for fewer than two texts.
    """
    if len(texts) < 2:
        raise InputError(f"{len(texts)} texts cannot be dealt to other prompts; give at least two")
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = [""] * len(texts)
    for place, number in enumerate(order):
        dealt[number] = texts[order[(place + 1) % len(order)]]
    return dealt
