"""Private codes: does only the reconstructor that grew up with a verbalizer understand its words?

The decisive reader is one never trained with that verbalizer: meaning survives the change of reader, a code does not.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.faithfulness.scoring import Reconstruct, Scorer


def cross_errors(
    scorer: Scorer, texts: Mapping[str, Sequence[str]], readers: Mapping[str, Reconstruct]
) -> dict[tuple[str, str], Float[Tensor, " n"]]:
    """Errors of the words of every verbalizer read by every reconstructor.

    Args:
        scorer: the states and their mean; its own reconstructor is not used.
        texts: explanations of the states by each verbalizer, or written texts, by name.
        readers: reconstructors by name.

    Returns:
        ``(verbalizer, reader)`` -> error of each row; 1 - mean is an FVE.
    """
    return {
        (writer, reader): scorer.reading_with(read).errors(list(said))
        for writer, said in texts.items()
        for reader, read in readers.items()
    }


def fve_matrix(errors: Mapping[tuple[str, str], Float[Tensor, " n"]]) -> dict[tuple[str, str], float]:
    """The FVE of each pair of writer and reader."""
    return {pair: 1 - float(rows.mean()) for pair, rows in errors.items()}


def cross_reconstructor_gap(
    errors: Mapping[tuple[str, str], Float[Tensor, " n"]], writer: str, own: str
) -> Float[Tensor, " n"]:
    """How much better each row is read by the writer's own reconstructor than by the average of all others.

    Args:
        errors: from :func:`cross_errors`.
        writer: whose words.
        own: the reconstructor trained with that verbalizer.

    Raises:
        InputError: when there is no other reader.
    """
    others = [rows for (who, reader), rows in errors.items() if who == writer and reader != own]
    if not others:
        raise InputError(f"the words of {writer!r} were read by {own!r} only; give at least one other reconstructor")
    return torch.stack(others).mean(0) - errors[writer, own]
