"""Ridge regression in closed form, solved in float64."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError


@dataclass(frozen=True)
class Ridge:
    """A fitted regression; its prediction is ``(inputs - input_mean) @ weight + target_mean``.

    Attributes:
        weight: ``[d_in, d_out]``, float64.
        input_mean: subtracted from inputs; zeros where inputs were not centred.
        target_mean: added to every prediction.
    """

    weight: Float[Tensor, "d_in d_out"]
    input_mean: Float[Tensor, " d_in"]
    target_mean: Float[Tensor, " d_out"]

    def predict(self, inputs: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Predictions in float64."""
        return (inputs.double() - self.input_mean) @ self.weight + self.target_mean


def fit_ridge(
    inputs: Float[Tensor, "n d_in"], targets: Float[Tensor, "n d_out"], decay: float, *, relative: bool = True,
    centre: bool = True,
) -> Ridge:  # fmt: skip
    """Fit targets from inputs; targets are always centred.

    Args:
        inputs: one row an example.
        targets: one row an example.
        decay: weight of the squared norm of the weights.
        relative: whether ``decay`` is relative to the mean variance of the inputs; otherwise it counts rows.
        centre: whether inputs are centred, too. Indicators, most of which are zero, are left as they are.

    Raises:
        InputError: when the rows differ in number, or there are none.
    """
    if len(inputs) != len(targets) or not len(inputs):
        raise InputError(f"{len(inputs)} rows of inputs for {len(targets)} of targets; give the same number, 1 or more")
    left, right = inputs.double(), targets.double()
    shift = left.mean(0) if centre else torch.zeros_like(left[0])
    goal = right.mean(0)
    left, right = left - shift, right - goal
    wide = left.shape[1] > len(left)  # then the smaller system has one equation a row
    gram = left @ left.T if wide else left.T @ left
    gram.diagonal().add_(decay * (left.square().sum() / left.shape[1] if relative else 1.0))
    solved = torch.linalg.solve(gram, right if wide else left.T @ right)
    return Ridge(left.T @ solved if wide else solved, shift, goal)
