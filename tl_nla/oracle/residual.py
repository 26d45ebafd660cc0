"""A residual block of the small networks that stand beside the language models."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu


class ResidualBlock(nn.Module):
    """Layer norm, two linear maps with a GELU between them, added to what came in.

    The second map starts with weights of zero, so that at first all rows get the same.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(width), nn.Linear(width, inner), nn.Linear(inner, width)
        nn.init.zeros_(self.outer.weight)

    def forward(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """The sum."""
        return hidden + self.outer(gelu(self.inner(self.norm(hidden))))
