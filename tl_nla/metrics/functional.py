"""The one definition of FVE, of the normalisation and of the other scores, as plain functions."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.metrics.norms import normalise

FAILED_ERROR = 2.0
"""Squared error per dimension of a failed extraction: that of a normalised vector at cosine 0 (the
released recipe gives a failed row an MSE of 2)."""


def cosine(preds: Float[Tensor, "*batch d_model"], targets: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
    """Cosine of each prediction with its target, in float64; 0 where either is zero."""
    return (normalise(preds.double()) * normalise(targets.double())).mean(-1)


def squared_errors(
    preds: Float[Tensor, "n d_model"],
    targets: Float[Tensor, "n d_model"],
    failed: Bool[Tensor, " n"] | None = None,
    normalised: bool = True,
) -> Float[Tensor, " n"]:
    """‖p̂ − ĝ‖² of each row, in float64: the numerator of FVE, one term a row.

    Args:
        preds: predictions, in model units.
        targets: true vectors, in model units.
        failed: rows for which no explanation could be extracted; rows of `preds` that are not finite fail too.
        normalised: compare the vectors after `normalise`; otherwise as they are (a failed row then predicts zero).

    Returns:
        The squared error of each row; a failed row counts ``FAILED_ERROR · d_model``, worse than predicting nothing.

    Raises:
        InputError: when the shapes differ or the targets are not finite.
    """
    if preds.shape != targets.shape:
        raise InputError(f"predictions have shape {tuple(preds.shape)}, targets {tuple(targets.shape)}: give the same")
    if not torch.isfinite(targets).all():
        raise InputError("targets hold NaN or infinite values: score the rows that could be read")
    bad = ~torch.isfinite(preds).all(-1)
    bad = bad if failed is None else bad | failed
    guess, truth = preds.double().masked_fill(bad[:, None], 0.0), targets.double()
    if not normalised:
        return (guess - truth).square().sum(-1)
    errors = (normalise(guess) - normalise(truth)).square().sum(-1)
    return errors.masked_fill(bad, FAILED_ERROR * targets.shape[-1])


def squared_deviations(
    targets: Float[Tensor, "n d_model"], mean: Float[Tensor, " d_model"] | None = None, normalised: bool = True
) -> Float[Tensor, " n"]:
    """‖ĝ − ḡ‖² of each row, in float64: the denominator of FVE, one term a row.

    Args:
        targets: true vectors, in model units.
        mean: ḡ, the *training set's* mean vector (of normalised vectors if `normalised`); that of `targets` when None.
        normalised: as in `squared_errors`.
    """
    truth = normalise(targets.double()) if normalised else targets.double()
    centre = truth.mean(0) if mean is None else mean.to(truth)
    return (truth - centre).square().sum(-1)


def fve(
    preds: Float[Tensor, "n d_model"],
    targets: Float[Tensor, "n d_model"],
    mean: Float[Tensor, " d_model"] | None = None,
    failed: Bool[Tensor, " n"] | None = None,
    normalised: bool = True,
) -> Float[Tensor, ""]:
    """Fraction of variance explained, ``1 − Σ‖p̂−ĝ‖² / Σ‖ĝ−ḡ‖²``, in float64.

    1 is perfect, 0 is as good as always answering the mean, negative is worse than that.

    Args:
        preds: predictions, in model units.
        targets: true vectors, in model units.
        mean: ḡ, the training set's mean of normalised vectors. When None the mean of `targets` stands in, which makes
            the number a little smaller: say which was used wherever the number stands.
        failed: rows without an extracted explanation; each counts a squared error of ``2 · d_model``.
        normalised: L2-normalise all vectors to √d_model first, as the released NLAs do; False gives the usual R².

    Returns:
        The FVE; NaN when the targets do not vary at all.

    Raises:
        InputError: when the shapes differ or the targets are not finite.
    """
    errors = squared_errors(preds, targets, failed, normalised).sum()
    deviations = squared_deviations(targets, mean, normalised).sum()
    return torch.where(deviations > 0, 1 - errors / deviations, torch.full_like(errors, torch.nan))


def recall_at_k(predicted: Int[Tensor, "n k"], target: Int[Tensor, "n m"], padding: int = -1) -> Float[Tensor, " n"]:
    """Share of each row's target ids that are among its k predicted ids.

    Args:
        predicted: ids named, best first, padded with `padding`.
        target: true ids, padded with `padding`; ids are distinct within a row.
        padding: the id that stands for nothing.

    Returns:
        Recall of each row; NaN for a row without targets.
    """
    real = target != padding
    found = (target[:, :, None] == predicted[:, None, :]).any(-1) & real
    return found.sum(-1).double() / real.sum(-1).double()
