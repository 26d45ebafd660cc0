"""What arms are asked about, and what is known there."""

from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Vectors to be told in words.

    Attributes:
        name: under which the words about them are kept.
        acts: states, or writes, in model units.
        past: token ids of the text so far, up to and with the position.
        document: number of each row's document, the cluster of every interval.
        before: the state that each write is added to; ``None`` for states.
        sites: where each write comes from; empty for states.
    """

    name: str
    acts: Float[Tensor, "n d_model"]
    past: list[list[int]]
    document: Int[Tensor, " n"]
    before: Float[Tensor, "n d_model"] | None = None
    sites: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.past)

    def with_acts(self, name: str, acts: Float[Tensor, "n d_model"]) -> "Rows":
        """The same places with other vectors."""
        return replace(self, name=name, acts=acts)

    def select(self, name: str, rows: Int[Tensor, " m"]) -> "Rows":
        """Some of the rows."""
        chosen = rows.tolist()
        return Rows(
            name, self.acts[rows], [self.past[row] for row in chosen], self.document[rows],
            None if self.before is None else self.before[rows],
            tuple(self.sites[row] for row in chosen) if self.sites else (),
        )  # fmt: skip


@dataclass(frozen=True)
class Material:
    """Rows with what is true of them.

    Attributes:
        rows: the vectors.
        following: the next tokens of the text; the same number for every row.
        gold: the explainer's own words.
        truths: what the explainer knows to be true there.
        recent: the mechanical words: how the text ends and what the model expects.
        logprobs: the model's prediction in nats; ``None`` where it is not needed.
    """

    rows: Rows
    following: list[list[int]]
    gold: list[str]
    truths: list[Any] = field(repr=False)
    recent: list[str] = field(repr=False)
    logprobs: Float[Tensor, "n vocab"] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.rows)
