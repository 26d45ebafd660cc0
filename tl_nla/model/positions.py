"""Which positions of a batch are meant: -1, lists, slices, masks, "all" or token strings."""

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tl_nla.errors import InputError

Positions = Any
"""``int``, list of ``int``, ``slice``, bool tensor ``[batch, pos]``, ``"all"``, a token string or a list of them."""
_TRUTHS = ("bool", "torch.bool", "<class 'bool'>")


def real_tokens(tokens: Int[Tensor, "batch pos"], attention_mask: Tensor | None) -> Bool[Tensor, "batch pos"]:
    """Which columns hold tokens and not padding.

    Raises:
        InputError: for an empty batch, a mask of another shape, or a row without tokens.
    """
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise InputError(f"tokens have shape {tuple(tokens.shape)}; at least one row and one position are needed")
    if attention_mask is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    if not isinstance(attention_mask, Tensor):
        raise InputError(f"attention_mask is {type(attention_mask).__name__}; give a tensor [batch, pos]")
    if attention_mask.shape != tokens.shape:
        raise InputError(f"attention_mask has shape {tuple(attention_mask.shape)}, tokens {tuple(tokens.shape)}")
    real = attention_mask.bool().to(tokens.device)
    empty = torch.nonzero(~real.any(1)).flatten().tolist()
    if empty:
        raise InputError(f"rows {empty[:5]} of the batch hold padding only; leave them out")
    return real


def select_positions(
    tokens: Int[Tensor, "batch pos"], positions: Positions, attention_mask: Tensor | None = None, tokenizer: Any = None
) -> Bool[Tensor, "batch pos"]:
    """The chosen columns of every row.

    Integers, lists and slices count each row's real tokens from its first (or, below zero, from its last). So they mean
    the same under left and right padding. Masks are over columns. A token string chooses every position whose decoded
    token equals it, leading space aside.

    Args:
        tokens: token ids.
        positions: which; see above.
        attention_mask: 1 for tokens, 0 for padding.
        tokenizer: needed for token strings only.

    Returns:
        True at the chosen columns.

    Raises:
        InputError: when a position is outside a row, a string is not found, or nothing is chosen.
    """
    real = real_tokens(tokens, attention_mask)
    if isinstance(positions, Tensor) and positions.dtype == torch.bool:
        chosen = _mask(positions, real)
    elif isinstance(positions, str) and positions == "all":
        chosen = real
    elif isinstance(positions, slice):
        chosen = _slice(positions, real)
    elif isinstance(positions, str) or _strings(positions):
        chosen = _matching(tokens, real, [positions] if isinstance(positions, str) else list(positions), tokenizer)
    else:
        chosen = _integers(positions, real)
    if not chosen.any():
        raise InputError(f"positions {positions!r} choose nothing; give at least one position")
    return chosen


def warn_of_padding(tokens: Int[Tensor, "batch pos"], chosen: Bool[Tensor, "batch pos"], tokenizer: Any) -> None:
    """Warn where chosen columns look like padding of a batch that was given without its attention mask.

    The tokenizer's padding token at the ends of some rows, but not of all, looks so. In front it may be the begin token
    as well, once.

    Args:
        tokens: token ids.
        chosen: the columns that are read.
        tokenizer: of the model; without one nothing is known.
    """
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None or len(tokens) < 2:
        return
    same = tokens == pad
    leading = same.long().cumprod(1).bool()
    if pad == getattr(tokenizer, "bos_token_id", None):
        leading = leading & leading.roll(-1, 1)
    padding = leading | same.flip(1).long().cumprod(1).bool().flip(1)
    rows = torch.nonzero((padding & chosen.to(padding.device)).any(1)).flatten().tolist()
    if rows and not padding.any(1).all():
        warnings.warn(
            f"rows {rows[:5]} of the batch seem to be padded, and their padding is read as text: give attention_mask "
            f"(1 for tokens, 0 for padding), or run the texts one by one",
            stacklevel=3,
        )


def whole_numbers(positions: Any, others: str) -> list[int]:
    """One position or several as integers, those of NumPy and torch included.

    Args:
        positions: what was given.
        others: the other kinds of positions that are allowed, for the message.

    Raises:
        InputError: for anything else. Truth values are no numbers: a mask of one row would be read as 0 and 1.
    """
    try:
        listed = list(positions)
    except TypeError:  # a single one
        listed = [positions]
    try:
        if any(str(getattr(one, "dtype", type(one))) in _TRUTHS for one in listed):
            raise TypeError
        return [operator.index(one) for one in listed]
    except TypeError:
        raise InputError(
            f"positions {positions!r} are of no known kind; give an int, a list, a slice, a bool mask [batch, pos] or "
            f"{others}"
        ) from None


def row_positions(real: Bool[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
    """Each column's number among its row's real tokens, from 0."""
    return real.long().cumsum(1) - 1


def _strings(positions: Any) -> bool:
    return isinstance(positions, Sequence) and len(positions) > 0 and all(isinstance(p, str) for p in positions)


def _mask(positions: Tensor, real: Tensor) -> Tensor:
    if positions.shape != real.shape:
        raise InputError(f"the mask of positions has shape {tuple(positions.shape)}, tokens {tuple(real.shape)}")
    mask = positions.to(real.device)
    if (mask & ~real).any():
        raise InputError("the mask of positions chooses padding; clear it there")
    return mask


def _slice(positions: slice, real: Tensor) -> Tensor:
    chosen = torch.zeros_like(real)
    for row, numbers in enumerate(row_positions(real).tolist()):
        wanted = set(range(*positions.indices(int(real[row].sum()))))
        chosen[row] = torch.tensor([number in wanted for number in numbers], device=real.device) & real[row]
    return chosen


def _integers(positions: Any, real: Tensor) -> Tensor:
    numbers = whole_numbers(positions, "'all' or a token")
    lengths = real.sum(1)
    chosen = torch.zeros_like(real)
    for number in numbers:
        place = lengths + number if number < 0 else torch.full_like(lengths, number)
        outside = torch.nonzero((place < 0) | (place >= lengths)).flatten().tolist()
        if outside:
            length = int(lengths[outside[0]])
            raise InputError(f"position {number} is outside row {outside[0]}, which has {length} tokens")
        chosen |= (row_positions(real) == place[:, None]) & real
    return chosen


def _matching(tokens: Tensor, real: Tensor, texts: list[str], tokenizer: Any) -> Tensor:
    if tokenizer is None:
        raise InputError(f"positions {texts} are token strings, which need a model with a tokenizer")
    known = {int(i): tokenizer.decode([int(i)]).strip() for i in tokens.unique()}
    chosen = torch.zeros_like(real)
    for text in texts:
        ids = [i for i, word in known.items() if word == text.strip()]
        found = torch.isin(tokens, torch.tensor(ids, device=tokens.device, dtype=tokens.dtype)) & real
        if not found.any():
            some = sorted(known.values())[:12]
            raise InputError(f"token {text!r} does not stand in the batch; some that do: {', '.join(some)}")
        chosen |= found
    return chosen
