"""Several processes: who they are, taking turns, and means over all their rows (``ddp``, ``fsdp``)."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from tl_nla.data.sharing import Share, sharing


def world_size() -> int:
    """Processes of the running group; one without a group."""
    running = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if running else 1


def rank() -> int:
    """Number of this process in the running group; zero without a group."""
    return torch.distributed.get_rank() if world_size() > 1 else 0


def wait() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        torch.distributed.barrier()


def shared_captures() -> AbstractContextManager[None]:
    """Writes that are captured into a folder inside are captured by all processes, a share each."""
    return sharing(Share(rank(), world_size(), wait))


def sums(*values: Tensor) -> tuple[Tensor, ...]:
    """Each scalar summed over the processes, in one exchange; no gradient goes through it."""
    if world_size() == 1:
        return tuple(value.detach() for value in values)
    packed = torch.stack([value.detach().double() for value in values])
    torch.distributed.all_reduce(packed)
    return tuple(total.to(value.dtype) for total, value in zip(packed, values, strict=True))


def denominators(*counts: Tensor) -> tuple[Tensor, ...]:
    """What this process divides a sum by, so that the mean over the processes is the mean over all that was counted.

    That is the global count over the number of processes. Dividing by the local count instead would give a token of a
    short batch more weight than one of a long batch beside it. In one process it is the count itself.

    Args:
        counts: how many tokens or rows this process holds, each a scalar. None at all anywhere counts as one.
    """
    size, totals = world_size(), sums(*counts)
    totals = tuple(total.clamp_min(1) for total in totals)
    return totals if size == 1 else tuple(total.float() / size for total in totals)
