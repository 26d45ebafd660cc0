"""The tensors of one clean forward pass, which everything that is told of a prompt is computed from."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_nla.attribution.diagonal import ScoreDiagonal
from tl_nla.errors import InputError
from tl_nla.model.heads import HeadSum, OutProjection, out_projection
from tl_nla.model.reading import head_sum
from tl_nla.model.readout import ReadOut, solve_readout


@dataclass(frozen=True)
class BlockCall:
    """How the model called one of its blocks, without the residual stream and without a key-value cache.

    Attributes:
        block: the block.
        args: its arguments behind the residual stream.
        kwargs: its named arguments.
        keyword: the residual stream's name, when it was passed by name.
        cache: the name or number of the argument that held a key-value cache; ``None`` when there was none.
    """

    block: nn.Module
    args: tuple
    kwargs: dict[str, Any]
    keyword: str | None
    cache: str | int | None = None

    def __call__(self, residual: Float[Tensor, "row pos d_model"], copies: int, batch: int) -> Tensor:
        """Run the block on ``copies`` stacked copies of the batch."""
        args, kwargs = _stack_rows(self.args, copies, batch), _stack_rows(self.kwargs, copies, batch)
        if self.keyword is None:
            out = self.block(residual, *args, **kwargs)
        else:
            out = self.block(*args, **{self.keyword: residual}, **kwargs)
        return out[0] if isinstance(out, tuple | list) else out


@dataclass
class CleanRun:
    """The tensors of one ordinary forward pass, by layer; at all positions, or at a few columns of it.

    What is said here of positions holds for the columns that were kept: their axis is that of the positions.

    Attributes:
        points: the model's hook points by name.
        calls: how each block was called.
        inputs: the residual stream handed to each block, and after the last one, ``[batch, pos, d_model]``.
        kept: tensors by full hook point name.
        diagonals: the formula of each layer's scores on the diagonal; None where no formula was found.
        logits: the model's output.
        valid: the positions that are no padding.
        tokens: what was run.
        mask: its attention mask, if there was one.
        state: what may not change where something proved on this run is to hold for another one.
        columns: which columns of the run were kept; ``None`` for all of them.
        length: how many columns the run had.
        keys: by layer, the keys and values of all columns as the model's cache is given them, where it has one.
        ends: last states and logits at up to eight columns, on which the read-out is solved.
        sums: the writes as sums of their heads, by layer and part, as far as they were asked for.
        rows_of_copies: whether copies of its positions may be rows of a batch; false where that failed.
    """

    points: dict[str, Any]
    calls: list[BlockCall]
    inputs: list[Float[Tensor, "batch pos d_model"]]
    kept: dict[str, Tensor]
    diagonals: list[ScoreDiagonal | None]
    logits: Float[Tensor, "batch pos vocab"]
    valid: Bool[Tensor, "batch pos"]
    tokens: Int[Tensor, "batch pos"]
    mask: Tensor | None = None
    state: Any = None
    columns: tuple[int, ...] | None = None
    length: int = 0
    keys: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    ends: tuple[Tensor, Tensor] | None = None
    sums: dict[tuple[int, str], HeadSum | InputError] = field(default_factory=dict)
    rows_of_copies: bool = True
    _readout: ReadOut | None = None
    _projections: dict[tuple[int, str], OutProjection] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Rows of the batch."""
        return self.logits.shape[0]

    @property
    def places(self) -> tuple[int, ...]:
        """The columns of the run that were kept."""
        return tuple(range(self.length)) if self.columns is None else self.columns

    def only(self, columns: Sequence[int]) -> "CleanRun":
        """The same run at some of its columns."""
        if self.columns is not None:
            raise InputError(f"this run was kept at the columns {list(self.columns)} only; capture it again")
        own = list(columns)
        kept = {name: value[:, own] if value.ndim > 1 and value.shape[1] == self.length else value
                for name, value in self.kept.items()}  # fmt: skip
        return replace(
            self, inputs=[state[:, own] for state in self.inputs], kept=kept, logits=self.logits[:, own],
            valid=self.valid[:, own], tokens=self.tokens[:, own], columns=tuple(own), sums={},
            diagonals=[None] * len(self.calls),
        )  # fmt: skip

    def rows(self, layer: int) -> dict[str, Tensor]:
        """What was kept of a block by hook point, batch and positions flattened."""
        prefix = f"blocks.{layer}."
        return {name: value.flatten(0, 1) for name, value in self.kept.items() if name.startswith(prefix)}

    def readout(self, model: Any) -> ReadOut:
        """What the model did behind its last block in this run, solved once."""
        if self._readout is None:
            last, logits = self.ends or (self.inputs[-1], self.logits)
            self._readout = solve_readout(model, last, logits)
        return self._readout

    def head_sum(self, model: Any, layer: int, part: str) -> HeadSum:
        """A part's write as the sum of its heads, rows and positions flattened; solved once.

        Raises:
            InputError: when it has none, or they do not add up.
        """
        key = layer, part
        if key not in self.sums:
            try:
                self.sums[key] = head_sum(model, layer, part, self.rows(layer))
            except InputError as error:
                self.sums[key] = error
        found = self.sums[key]
        if isinstance(found, InputError):
            raise found
        return found

    def projection(self, model: Any, layer: int, part: str) -> OutProjection:
        """The last layer of a part, looked for once.

        Raises:
            InputError: when it has none that heads could be read from.
        """
        key = layer, part
        if key not in self._projections:
            self._projections[key] = out_projection(model, layer, part)
        return self._projections[key]

    def at(self, layer: int, name: str) -> Tensor:
        """The tensor seen at ``blocks.{layer}.{name}``."""
        return self.kept[f"blocks.{layer}.{name}"]


@contextmanager
def hooked(pairs: Sequence[tuple[Any, Callable[..., Tensor | None]]]) -> Iterator[None]:
    """Put functions on hook points (the objects, not their names) and take exactly these off again."""
    done: list[tuple[Any, Any]] = []
    try:
        for point, function in pairs:
            before = {id(handle) for handle in point.fwd_hooks}
            point.add_hook(function)
            done += [(point, handle) for handle in point.fwd_hooks if id(handle) not in before]
        yield
    finally:
        for point, handle in done:
            handle.hook.remove()
            point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]


def _stack_rows(value: Any, copies: int, batch: int) -> Any:
    """Repeat every tensor that has the batch as its first axis; the others broadcast."""
    if copies == 1 or batch == 1:
        return value
    if isinstance(value, Tensor):
        return value.repeat(copies, *[1] * (value.ndim - 1)) if value.ndim > 1 and len(value) == batch else value
    if isinstance(value, tuple | list):
        return type(value)(_stack_rows(item, copies, batch) for item in value)
    if isinstance(value, dict):
        return {key: _stack_rows(item, copies, batch) for key, item in value.items()}
    return value
