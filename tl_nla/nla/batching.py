"""Small things that every batched pass needs: padding, evaluation mode, progress."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from tl_nla.data.progress import progress_bar, tell
from tl_nla.errors import InputError
from tl_nla.model.families import context_length

_EXPLAINING = "explaining"


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every submodule's own mode back afterwards.

    Autocast to the other half precision than that of the weights is off inside: torch cannot mix the two.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with _autocast_that_fits(module):
            yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def _autocast_that_fits(module: nn.Module) -> Iterator[None]:
    first = next(module.parameters(), None)
    device = "cpu" if first is None else first.device.type
    halves = {torch.bfloat16, torch.float16}
    if torch.is_autocast_enabled(device):
        halves &= {parameter.dtype for parameter in module.parameters()}
        if halves - {torch.get_autocast_dtype(device)}:
            with torch.autocast(device, enabled=False):
                yield
            return
    yield


def pad_right(rows: list[list[int]], fill: int) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
    """Rows of ids as one tensor, and where it is real."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [fill] * (width - len(row)) for row in rows])
    return ids, torch.arange(width) < torch.tensor([[len(row)] for row in rows])


def similar_lengths(lengths: Int[Tensor, " n"]) -> list[Int[Tensor, " rows"]]:
    """Rows in groups, each padded by a quarter of its shortest row and four tokens at most.

    A pass over a group costs what its tokens cost; a pass over all rows pays the longest row's price for each.

    Args:
        lengths: tokens of each row.

    Returns:
        Row numbers of each group, shortest rows first; together every row once.
    """
    order = lengths.cpu().argsort(stable=True)
    groups, start, sizes = [], 0, lengths.cpu()[order].tolist()
    for place, size in enumerate(sizes):
        if size > 1.25 * sizes[start] + 4:
            groups.append(order[start:place])
            start = place
    return [*groups, order[start:]]


def micro_batches(lengths: Int[Tensor, " n"], size: int | None) -> list[Int[Tensor, " rows"]]:
    """Row numbers of parts of a batch whose rows have similar lengths; together every row once.

    Args:
        lengths: tokens of each row.
        size: most rows a part; ``None`` is the whole batch as it stands.
    """
    if size is None or size >= len(lengths):
        return [torch.arange(len(lengths))]
    return list(lengths.cpu().argsort(stable=True).split(size))


def check_room(model: Any, prompt: int, response: int = 1, text: str | None = None) -> None:
    """Refuse a prompt, or a prompt with a response, that is longer than the model's context.

    Raises:
        InputError: with what would fit.
    """
    limit = context_length(model)
    if limit is None or prompt + response <= limit:
        return
    if text is None or prompt >= limit:
        raise InputError(
            f"the prompt has {prompt} tokens, the model's context is {limit}; give a shorter template, or a model with "
            "a longer context"
        )
    raise InputError(
        f"the text {text[:40]!r}... has {response} tokens, and {limit - prompt} fit behind the prompt in the model's "
        f"context of {limit}; shorten it"
    )


def tracked(starts: range, total: int, batch_size: int, shown: bool = True) -> Iterator[int]:
    """Chunk starts; who listens hears of the rows done (:mod:`tl_nla.data.progress`)."""
    with progress_bar() if shown else nullcontext():
        tell(_EXPLAINING, 0, total)
        for start in starts:
            yield start
            tell(_EXPLAINING, min(start + batch_size, total), total)
