"""Small things that every batched pass needs: padding, evaluation mode, progress."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every submodule's own mode back afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


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


def tracked(starts: range, total: int, batch_size: int) -> Iterator[int]:
    """Chunk starts, with a progress bar on the terminal that vanishes at the end."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("explaining", total=total)
        for start in starts:
            yield start
            bar.update(task, advance=min(batch_size, total - start))
