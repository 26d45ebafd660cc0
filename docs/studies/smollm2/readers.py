"""Linear readers of a head's write, and their scores against two baselines."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tl_nla.benchmark.bootstrap import fve_interval
from tl_nla.metrics import normalise
from tl_nla.metrics.ridge import Ridge, fit_ridge

DECAYS = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Truth:
    """Writes to be rebuilt, with what they are compared to.

    Attributes:
        write: each at the norm √d_model, in the coordinates of the head's basis.
        own: the head's own mean on training documents.
        all_square: squared distance of each write from the mean over all heads, in the whole stream.
        document: of each row.
        held: rows of held-out documents.
    """

    write: Tensor
    own: Tensor
    all_square: Tensor
    document: Tensor
    held: Tensor


def fitted(inputs: Tensor, truth: Truth) -> Ridge:
    """Ridge regression; the decay is chosen on a fifth of the training documents."""
    train = torch.nonzero(~truth.held).flatten()
    inner = truth.document[train] % 5 == 0
    part, test = train[~inner], train[inner]
    # Every decay needs the same products of the inputs: the eigenvectors of one serve them all.
    left = inputs[part].double() - inputs[part].double().mean(0)
    value, vector = torch.linalg.eigh(left.T @ left)
    along = vector.T @ (left.T @ (truth.write[part] - truth.write[part].mean(0)).double())
    shown = (inputs[test].double() - inputs[part].double().mean(0)) @ vector
    wanted = (truth.write[test] - truth.write[part].mean(0)).double()
    losses = {d: float((shown @ (along / (value + d * value.mean())[:, None]) - wanted).square().sum()) for d in DECAYS}
    return fit_ridge(inputs[train], truth.write[train], min(losses, key=lambda decay: losses[decay]))


def scores(guess: Tensor, truth: Truth) -> dict[str, float]:
    """FVE of held-out rows against the head's own mean (strict) and the mean of all heads, with 95% intervals.

    ``fve`` and ``fve_all`` compare the reader's prediction as it is; ``fve_unit`` scales it to √d_model first.
    """
    write, document = truth.write[truth.held].double(), truth.document[truth.held]
    strict = (write - truth.own.double()).square().sum(1)
    plain = (guess.double() - write).square().sum(1)
    length = write.norm(dim=1).mean()
    unit = (normalise(guess.double()) / guess.shape[1] ** 0.5 * length - write).square().sum(1)
    found: dict[str, float] = {"n": float(len(write))}
    for name, errors, base in (
        ("fve", plain, strict), ("fve_all", plain, truth.all_square[truth.held]), ("fve_unit", unit, strict),
    ):  # fmt: skip
        interval = fve_interval(errors, base, document, generator=torch.Generator().manual_seed(0), resamples=500)
        found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found
