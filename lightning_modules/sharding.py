"""``fsdp2``: weights, gradients and the optimiser's state shared out over the processes (torch's ``fully_shard``).

Each block, and what is left of each part, is one unit: its weights are gathered for its computation and let go again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from tl_nla.errors import InputError
from tl_nla.model.families import decoder_layers

NAME = "fsdp2"


class ShardingStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2 with all processes in one group, on GPUs or CPUs; checkpoints are folders.

    Example:
        >>> import lightning_modules.sharding
        >>> L.Trainer(accelerator="gpu", devices=8, strategy="fsdp2")
    """

    def setup_environment(self) -> None:
        """Share out over all processes, whatever machine they are on."""
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()


if NAME not in StrategyRegistry:
    StrategyRegistry.register(NAME, ShardingStrategy, "Fully sharded data parallel of torch (FSDP2)")


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Share out the parts of a training over the processes of a mesh; what is shared out already stays.

    Args:
        module: whose children are a verbalizer (``.model``), a reconstructor (``.backbone``), or small layers.
        mesh: of one dimension.

    Raises:
        InputError: for an optimiser that needs whole matrices.
    """
    if getattr(module, "optimizer", "adamw") == "muon":
        raise InputError(f"Muon orthogonalises whole matrices, and {NAME} shares them out; give optimizer 'adamw'")
    part: Any
    for part in module.children():
        if isinstance(part, FSDPModule) or not any(True for _ in part.parameters()):
            continue
        inner = getattr(part, "model", None) or getattr(part, "backbone", None)
        for block in () if inner is None else decoder_layers(inner):
            fully_shard(block, mesh=mesh)
        fully_shard(part, mesh=mesh)
        if hasattr(part, "by_length"):
            part.by_length = False  # all processes have to make the same number of passes


def whole(value: Tensor) -> Tensor:
    """A number that is spread over the processes, such as the norm of shared-out gradients, as one of its own."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@contextmanager
def gathered(*parts: nn.Module) -> Iterator[None]:
    """The whole weights of parts inside, in every process: processes may then run different numbers of passes.

    Without gradient: for generation, of which one process needs more steps than another. Nothing where parts are whole.
    """
    units = [unit for part in parts for unit in part.modules() if isinstance(unit, FSDPModule)]
    try:
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(True, recurse=False)


@contextmanager
def plain_weights(module: nn.Module) -> Iterator[None]:
    """Plain tensors in the places of shared-out ones inside, so that a part can be saved; for all processes."""
    held: list[tuple[dict[str, Any], str, Any]] = []
    made: dict[int, nn.Parameter] = {}
    for unit in module.modules():
        if isinstance(unit, FSDPModule):
            unit.reshard()  # the outermost unit stays whole after a pass
    try:
        for inner in module.modules():
            for name, weight in inner._parameters.items():
                if isinstance(weight, DTensor):
                    if id(weight) not in made:
                        made[id(weight)] = nn.Parameter(weight.full_tensor(), weight.requires_grad)
                    held.append((inner._parameters, name, weight))
                    inner._parameters[name] = made[id(weight)]
        yield
    finally:
        for parameters, name, weight in held:
            parameters[name] = weight
