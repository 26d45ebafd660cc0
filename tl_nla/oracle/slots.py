"""How a state and a write enter the verbalizer: directions through affine maps, magnitudes told apart from them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tl_nla.metrics.norms import at_least_float32, log_norm, scale_to_norm
from tl_nla.oracle.encoder import SourceEncoder

SLOTS = ("before", "write")
"""Those that every verbalizer has; one with a :class:`SourceEncoder` has that one's behind them."""
_BUMPS, _REACH = 8, 2.5


class Slots(nn.Module):
    """Two vectors to two embeddings.

    Each vector is brought to the norm of a token embedding and goes through its own affine map, the identity at the
    start. Its magnitude is given beside it: the logarithm of its norm, standardised over the training set. It enters as
    a number and as eight overlapping bumps along learned directions (zero at the start). So neither a faint nor a huge
    write leaves the range that the verbalizer knows, and none loses its size.

    Args:
        d_act: size of the vectors.
        width: size of the verbalizer's embeddings.
        scale: L2 norm at which directions enter.

    Attributes:
        encoder: fills further slots; fixed, however the rest is trained. Without it there are two slots.
    """

    log_norm_mean: Tensor
    log_norm_std: Tensor

    def __init__(self, d_act: int, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.encoder: SourceEncoder | None = None
        self.weight = nn.Parameter(torch.eye(d_act, width).repeat(len(SLOTS), 1, 1))
        self.bias = nn.Parameter(torch.zeros(len(SLOTS), width))
        self.magnitude = nn.Parameter(torch.zeros(len(SLOTS), 1 + _BUMPS, width))
        self.register_buffer("log_norm_mean", torch.zeros(len(SLOTS)))
        self.register_buffer("log_norm_std", torch.ones(len(SLOTS)))

    @property
    def count(self) -> int:
        """How many embeddings come out for each write."""
        return len(SLOTS) + (0 if self.encoder is None else self.encoder.slots)

    @torch.no_grad()
    def fit(self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"]) -> None:
        """Take mean and spread of the log norms from training vectors."""
        for slot, vectors in enumerate((before, write)):
            logs = log_norm(vectors)
            self.log_norm_mean[slot] = logs.mean()
            self.log_norm_std[slot] = logs.std(correction=0).clamp_min(1e-3)

    def forward(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"]
    ) -> Float[Tensor, "n slot width"]:
        """Embeddings of the slots, float32 at least; a zero vector has no direction and the smallest magnitude."""
        vectors = torch.stack([scale_to_norm(before, self.scale), scale_to_norm(write, self.scale)], 1)
        logs = torch.stack([log_norm(before), log_norm(write)], 1)
        weight, bias, magnitude = map(at_least_float32, (self.weight, self.bias, self.magnitude))
        place = ((logs - self.log_norm_mean) / self.log_norm_std).clamp(-4, 4).to(weight.dtype)
        centres = torch.linspace(-_REACH, _REACH, _BUMPS, device=place.device, dtype=place.dtype)
        bumps = torch.exp(-((place[..., None] - centres) ** 2) / 0.5)
        features = torch.cat([place[..., None], bumps], -1)
        moved = torch.einsum("nsd,sde->nse", vectors.to(weight.dtype), weight) + bias
        moved = moved + self.scale * torch.einsum("nsf,sfe->nse", features, magnitude)
        if self.encoder is None:
            return moved
        with torch.no_grad():
            told = self.encoder.embed(before, write).to(moved)
        return torch.cat([moved, told], 1)
