"""A network that tells a write from a model's own run on raw context, from words read back, or from both."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.oracle.residual import ResidualBlock

_BLOCKS = 2
_USUAL_LENGTH = 32


@dataclass(frozen=True)
class Evidence:
    """What is known of each write.

    Attributes:
        before: the state before it in the model's own run on the context.
        write: what the component writes in that run.
        told: the write as a reconstructor reads it back from words.
        site: number of the component.
        length: tokens of context.
        has_context: where the own run may be used.
        has_words: where ``told`` may be used.
    """

    before: Float[Tensor, "n d_model"]
    write: Float[Tensor, "n d_model"]
    told: Float[Tensor, "n d_model"]
    site: Int[Tensor, " n"]
    length: Int[Tensor, " n"]
    has_context: Bool[Tensor, " n"]
    has_words: Bool[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.site)

    def select(self, rows: Tensor | slice) -> "Evidence":
        """Some of the rows."""
        return Evidence(*(getattr(self, field.name)[rows] for field in fields(self)))

    def limited(self, context: bool, words: bool) -> "Evidence":
        """The same rows with only the context, only the words, or both (as far as they are there)."""
        return replace(self, has_context=self.has_context & context, has_words=self.has_words & words)

    @classmethod
    def join(cls, *parts: "Evidence") -> "Evidence":
        """Rows of several, one behind the other."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class WriteNetwork(nn.Module):
    """Corrects the own run's write and the write that words were read back as, and weighs them against each other.

    It starts as their plain sum. One network reads every kind of evidence, so that no arm has had more training.

    Args:
        d_model: size of the writes.
        sites: how many components there are.
        hidden: width; the two residual blocks are twice as wide inside.

    Raises:
        InputError: for sizes below 1.
    """

    def __init__(self, d_model: int, sites: int, hidden: int) -> None:
        super().__init__()
        for name, value in (("d_model", d_model), ("sites", sites), ("hidden", hidden)):
            if value < 1:
                raise InputError(f"{name} is {value}; at least 1 is needed")
        self.sites = sites
        self.first = nn.Linear(3 * d_model + 5 + sites, hidden)
        self.blocks = nn.ModuleList(ResidualBlock(hidden, 2 * hidden) for _ in range(_BLOCKS))
        self.out = nn.Linear(hidden, d_model)
        self.weigh = nn.Linear(hidden, 2)
        for layer in (self.out, self.weigh):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, known: Evidence) -> Float[Tensor, "n d_model"]:
        """Writes at norm √d_model (zero where nothing at all is known)."""
        context, words = known.has_context[:, None].float(), known.has_words[:, None].float()
        write, told = normalise(known.write) * context, normalise(known.told) * words
        hidden = self.first(torch.cat([
            write, normalise(known.before) * context, _log_norm(known.write) * context, context,
            told, _log_norm(known.told) * words, words,
            one_hot(known.site, self.sites).float(), known.length[:, None].float() / _USUAL_LENGTH,
        ], 1))  # fmt: skip
        for block in self.blocks:
            hidden = block(hidden)
        shares = 1 + self.weigh(hidden)
        return normalise(self.out(hidden) + shares[:, :1] * write + shares[:, 1:] * told)

    def loss(self, known: Evidence, write: Float[Tensor, "n d_model"]) -> Float[Tensor, ""]:
        """Mean squared error of the normalised writes (0 to 4)."""
        return (self(known) - normalise(write)).square().mean()


def _log_norm(vectors: Float[Tensor, "n d_model"]) -> Float[Tensor, "n 1"]:
    return vectors.norm(dim=-1, keepdim=True).clamp_min(1e-4).log()
