"""Where forward passes start: at block 0, or further up in a run that is given states (``start_at_layer``)."""

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.hooks import HookPair, is_bridge

_BLOCK = re.compile(r"blocks\.(\d+)\.")


class PassStarts:
    """Notices the first block of each forward pass among those that the watched points need.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        names: hook points that a pass has to run.
        known: ``model.hook_dict``.
    """

    def __init__(self, model: Any, names: Iterable[str], known: Collection[str]) -> None:
        self.first = min(block_of(name, int(model.cfg.n_layers)) for name in names)
        self._blocks, self._bridge = list(getattr(model, "blocks", ()))[:1], is_bridge(model)
        self._watched = [layer for layer in range(self.first + 1) if entry(layer) in known]
        self._last, self._shape = self.first, (0, 0)

    def hooks(self, begin: Callable[[Tensor, int], None]) -> list[HookPair]:
        """Pairs that call ``begin(states, layer)`` once in a pass, with the states that enter its first block."""

        def make(layer: int) -> Callable[..., None]:
            def enter(activation: Tensor, hook: Any) -> None:
                if self._begins(layer, activation):
                    begin(activation, layer)

            return enter

        return [(entry(layer), make(layer)) for layer in self._watched]

    def given_states(self) -> int | None:
        """Block at which a bridge's run was given states; ``None`` for every other run."""
        return getattr(self._blocks[0], "_start_at_layer_idx", None) if self._blocks else None

    def discards(self, name: str) -> bool:
        """Whether what a point shows is thrown away: a bridge also runs the blocks before its ``start_at_layer``."""
        given, block = self.given_states(), _BLOCK.match(name)
        return given is not None and block is not None and int(block[1]) < given

    @property
    def behind(self) -> bool:
        """Whether a run whose start was not seen started behind the first watched point."""
        given = self.given_states()
        return not self._bridge if given is None else given > self.first

    def missed(self, name: str) -> InputError:
        """The error for a point of a pass whose start was not seen."""
        given = self.given_states()
        where = f"at block {given}, " if given is not None else ""
        return InputError(
            f"{name} was reached by a run that started {where}behind block {self.first}, which the adapter reads too; "
            f"start it at block {self.first} or before, or use an adapter for the later sites alone"
        )

    def _begins(self, layer: int, states: Tensor) -> bool:
        given, again = self.given_states(), layer <= self._last or tuple(states.shape[:2]) != self._shape
        self._last, self._shape = layer, (states.shape[0], states.shape[1])
        return again if given is None else layer == given


def entry(layer: int) -> str:
    """Hook point of the states that enter a block."""
    return f"blocks.{layer}.hook_resid_pre"


def block_of(name: str, layers: int) -> int:
    """The block that a pass has to run for a hook point: the last one for the final norm, the first for embeddings."""
    block = _BLOCK.match(name)
    if block is not None:
        return int(block[1])
    return layers - 1 if name.startswith("ln_final") else 0
