"""A second reading of a text by a reconstructor: a network on the states that its backbone has of the whole text."""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.metrics.norms import at_least_float32
from tl_nla.model.files import read_safetensors
from tl_nla.oracle.residual import ResidualBlock
from tl_nla.outputs import check_file

_BLOCKS = 2


class Refinement(nn.Module):
    """Corrects the direction and the size that a linear head reads from a text's last state.

    A small backbone has little room behind its last attention: words that it has gathered need a function of them all
    to become a write. The network is trained after the backbone, on states that are computed once, so it sees every
    text many times in a minute. It starts as no correction.

    Args:
        width: of the backbone's states.
        d_act: size of the writes.
        hidden: width of the network; its two residual blocks are twice as wide inside.

    Raises:
        InputError: for sizes below 1.
    """

    def __init__(self, width: int, d_act: int, hidden: int) -> None:
        super().__init__()
        for name, value in (("width", width), ("d_act", d_act), ("hidden", hidden)):
            if value < 1:
                raise InputError(f"{name} is {value}; at least 1 is needed")
        self.width, self.d_act = width, d_act
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.first = nn.Linear(2 * width, hidden)
        self.blocks = nn.ModuleList(ResidualBlock(hidden, 2 * hidden) for _ in range(_BLOCKS))
        self.out = nn.Linear(hidden, d_act + 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, states: Float[Tensor, "n both"], read: Float[Tensor, "n d_act_and_size"]
    ) -> Float[Tensor, "n d_act_and_size"]:
        """The corrected reading.

        Args:
            states: of each text the last state, then the mean of all states.
            read: the linear head's direction (of any length), then its standardised log norm.

        Returns:
            Directions (their length means nothing) and standardised log norms.
        """
        own = states.to(self.first.weight.dtype)
        ends = [norm(part) for norm, part in zip(self.norms, own.chunk(2, dim=1), strict=True)]
        hidden = self.first(torch.cat(ends, 1))
        for block in self.blocks:
            hidden = block(hidden)
        linear = torch.cat([normalise(read[:, : self.d_act]), read[:, self.d_act :]], 1)
        return at_least_float32(self.out(hidden)) + linear

    def save(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write everything to one safetensors file.

        Args:
            path: of the file.
            dtype: of what is written, float32 when ``None``; it is loaded as float32 again.
        """
        kept = dtype or torch.float32
        save_file(
            {name: value.detach().to("cpu", kept).contiguous() for name, value in self.state_dict().items()},
            check_file(path),
        )

    @classmethod
    def load(cls, path: str | Path) -> "Refinement":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: when the file is missing or damaged, or holds something else.
        """
        state = {name: value.float() for name, value in read_safetensors(path).items()}
        try:
            (hidden, both), (d_act, _) = state["first.weight"].shape, state["out.weight"].shape
            made = cls(both // 2, d_act - 1, hidden)
            made.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"{path} holds no refinement: {' '.join(str(error).split())[:200]}") from error
        return made
