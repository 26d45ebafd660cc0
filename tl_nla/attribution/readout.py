"""From the last residual state to logits, checked against the logits that the model itself gave."""

from typing import Any

from tl_nla.attribution.clean_run import CleanRun
from tl_nla.errors import InputError
from tl_nla.model.readout import ReadOut


def read_out_of(model: Any, clean: CleanRun) -> ReadOut:
    """What the model did after its last block in this run.

    Raises:
        InputError: it is none of what is known, so that nothing computed through it could be trusted.
    """
    found = clean.readout(model)
    if not found.fit.exact:
        raise InputError(
            f"{type(model).__name__} does more after its last block than final norm, unembedding, multiplier and soft "
            f"cap (its logits are {found.fit}); this model is not supported here"
        )
    return found
