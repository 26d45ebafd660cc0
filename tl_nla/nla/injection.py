"""How a vector enters the verbalizer."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tl_nla.errors import InputError, unknown
from tl_nla.metrics.norms import at_least_float32, scale_to_norm

KINDS = ("constant", "sqrt_d", "raw", "affine", "additive", "norm_matched", "patched")
_IN_STREAM = ("additive", "norm_matched", "patched")


@dataclass(frozen=True)
class InjectionConfig:
    """Which strategy, and its settings.

    Attributes:
        kind: ``constant`` replaces the marker's embedding by the vector at L2 norm ``scale`` (released NLAs).
            ``sqrt_d`` is the same at norm sqrt(d_model). ``raw`` leaves the vector as it is. ``affine`` is a learned
            map that starts as ``constant``. ``additive`` adds the vector, at the norm of what stands there, to a
            block's output (Karvonen et al., activation oracles; theirs divides by norm + 1e-9, ours by the norm).
            ``norm_matched`` puts the vector there instead, at that norm (their oracles before October 2025);
            ``patched`` puts the vector there as it is (LatentQA, Patchscopes).
        scale: L2 norm of the injected vector for ``constant`` and at the start of ``affine``.
        slots: number of marker tokens that all carry the vector.
        block: whose output is changed by the kinds that change one; 1 is the second block.
        strength: factor of the norm for ``additive`` and ``norm_matched``.

    Raises:
        InputError: for an unknown kind, a missing or non-positive scale or strength, a negative block, or no slot.
    """

    kind: str
    scale: float | None = None
    slots: int = 1
    block: int = 1
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("injection", self.kind, KINDS)
        if self.kind in ("constant", "affine") and not (self.scale is not None and 0 < self.scale < float("inf")):
            raise InputError(f"injection {self.kind!r} has scale {self.scale}; give the L2 norm to inject at, above 0")
        if self.slots < 1:
            raise InputError(f"injection has {self.slots} slots; at least one is needed")
        if self.block < 0 or not 0 < self.strength < float("inf"):
            raise InputError(
                f"injection has block {self.block} and strength {self.strength}; a block is 0 or above, a strength "
                "above 0"
            )


class Injection(nn.Module):
    """Turns activations into the embeddings of the marker tokens; learned for ``affine``, fixed otherwise."""

    def __init__(self, config: InjectionConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        if config.kind == "affine":
            start = torch.eye(d_model).repeat(config.slots, 1, 1)
            self.weight = nn.Parameter(start)
            self.bias = nn.Parameter(torch.zeros(config.slots, d_model))

    @property
    def replaces_embedding(self) -> bool:
        """Whether the marker's embedding is replaced; otherwise a block's output is changed there."""
        return self.config.kind not in _IN_STREAM

    def forward(self, acts: Float[Tensor, "n d_model"]) -> Float[Tensor, "n slots d_model"]:
        """Vectors to put at the marker tokens, float32 (float64 from a learned map in float64).

        Args:
            acts: activations in any floating dtype; a zero vector stays zero.

        Returns:
            For ``additive`` and ``norm_matched`` the unit direction, for all others what is put there.
        """
        vectors = acts.float()
        kind, scale = self.config.kind, self.config.scale
        if kind == "sqrt_d":
            vectors = scale_to_norm(vectors, self.d_model**0.5)
        elif kind in ("additive", "norm_matched"):
            vectors = scale_to_norm(vectors, 1.0)
        elif scale is not None and kind not in ("raw", "patched"):
            vectors = scale_to_norm(vectors, scale)
        if kind == "affine":
            weight, bias = at_least_float32(self.weight), at_least_float32(self.bias)
            return torch.einsum("nd,sed->nse", vectors.to(weight.dtype), weight) + bias
        return vectors[:, None].expand(-1, self.config.slots, -1)


def change_stream(
    stream: Float[Tensor, "n pos d_model"], vectors: Float[Tensor, "n slots d_model"], places: list[int],
    config: InjectionConfig,
) -> Float[Tensor, "n pos d_model"]:  # fmt: skip
    """A block's output with the vectors in it, by one of the kinds that change a block's output.

    Returns:
        A new tensor; positions other than ``places`` are as they were.
    """
    index = torch.tensor(places, device=stream.device)
    there, new = stream[:, index], vectors.to(stream)
    if config.kind != "patched":
        new = config.strength * there.norm(dim=-1, keepdim=True) * new
    if config.kind == "additive":
        new = there + new
    return stream.index_copy(1, index, new)
