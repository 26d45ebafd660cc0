"""Private codes: does only the reconstructor that grew up with a verbalizer understand its words?

The decisive reader is one never trained with that verbalizer: meaning survives the change of reader, a code does not.

Two readers need no transformer trained again (:func:`refitted_errors`). They are ridge regressions on claims, and on
claims with wording and order, fitted to the words in question.
"""

import contextlib
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.faithfulness.readers import RidgeReader
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


def refitted_errors(
    scorer: Scorer, texts: Sequence[str], train_texts: Sequence[str], train_written: Sequence[str],
    train_acts: Float[Tensor, "m d_model"],
) -> dict[str, Float[Tensor, " n"]]:  # fmt: skip
    """Errors of words read for what they say, for what their claims go with, and for that and how they are said.

    A reader of claims fitted to written texts takes a claim to mean what it says. If one fitted to the words in
    question reads them better, claims stand for something else (a cover story, or habitual mistakes). If it reads them
    better still once it sees wording and order, these carry something too. Words in no form that the embedded world
    knows tell these readers nothing.

    Returns:
        ``plain``, ``refitted_claims`` and ``refitted_style``, as :meth:`Scorer.errors` gives them.
    """
    plain = claims = style = RidgeReader.fit(train_written, train_acts)
    with contextlib.suppress(InputError):  # no claim in a known form: nothing that these readers could read
        claims = RidgeReader.fit(train_texts, train_acts)
        style = RidgeReader.fit(train_texts, train_acts, style=True)
    readers = {"plain": plain, "refitted_claims": claims, "refitted_style": style}
    return {name: scorer.reading_with(reader.reconstruct).errors(texts) for name, reader in readers.items()}
