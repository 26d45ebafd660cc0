"""Linear probes: what a state holds, whatever words say about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from tl_nla.errors import InputError


@dataclass(frozen=True)
class Probe:
    """A multinomial logistic regression on standardised states.

    Attributes:
        classes: the words it can answer.
        mean: subtracted from a state.
        deviation: divides it.
        weight: ``[classes, d_model]``.
        bias: ``[classes]``.
    """

    classes: tuple[str, ...]
    mean: Float[Tensor, " d_model"]
    deviation: Float[Tensor, " d_model"]
    weight: Float[Tensor, "classes d_model"]
    bias: Float[Tensor, " classes"]

    def probabilities(self, acts: Float[Tensor, "n d_model"]) -> Float[Tensor, "n classes"]:
        """Probability of each class for each state."""
        return (((acts - self.mean) / self.deviation) @ self.weight.T + self.bias).softmax(-1)

    def predict(self, acts: Float[Tensor, "n d_model"]) -> list[str]:
        """The most likely class of each state."""
        return [self.classes[index] for index in self.probabilities(acts).argmax(-1).tolist()]


def fit_probe(acts: Float[Tensor, "n d_model"], answers: Sequence[str], decay: float = 1e-6, steps: int = 100) -> Probe:
    """Fit a probe by L-BFGS, deterministic.

    Args:
        acts: training states.
        answers: the fact at each.
        decay: weight of the squared norm of the weights, per row.
        steps: L-BFGS iterations.

    Raises:
        InputError: when there are no rows or only one answer.
    """
    classes = tuple(sorted(set(answers)))
    if len(classes) < 2 or len(acts) != len(answers):
        raise InputError(f"a probe needs at least two answers and one a row; got {len(classes)} on {len(acts)} rows")
    target = torch.tensor([classes.index(answer) for answer in answers])
    mean, deviation = acts.mean(0), acts.std(0).clamp_min(1e-6)
    inputs = (acts - mean) / deviation
    weight = torch.zeros(len(classes), acts.shape[1], requires_grad=True)
    bias = torch.zeros(len(classes), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(inputs @ weight.T + bias, target) + decay * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return Probe(classes, mean, deviation, weight.detach(), bias.detach())
