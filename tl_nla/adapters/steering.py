"""Adapters that change states or writes while a model runs or generates: through words, or by a vector."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.adapters.base import Adapter, refuse_unfit
from tl_nla.adapters.starts import PassStarts, entry
from tl_nla.adapters.stream import Generated, RunningText, choose_new, known_positions
from tl_nla.amounts import check_number
from tl_nla.errors import InputError, unknown
from tl_nla.model.facts import branches_of
from tl_nla.model.hooks import HookPair
from tl_nla.model.positions import Positions
from tl_nla.model.reading import head_sum, points_of, site_values
from tl_nla.model.sites import Site
from tl_nla.notebook import Rows, Shown
from tl_nla.steering.change import MODES, change_states
from tl_nla.steering.rewriters import Rewriter, check_rewriters
from tl_nla.steering.vectors import SteeringVector

Strength = float | Callable[[int], float]
"""One number, or a schedule: from the position in the text to a number."""


def entry_point(model: Any, site: Site) -> tuple[str, float]:
    """Hook point at which a change of a state or write enters the residual stream, and its factor on the way there."""
    if site.kind == "span":
        return str(site.end), 1.0
    if site.kind == "state":
        return str(site.point), 1.0
    layer = int(site.layer or 0)
    if site.kind == "block":
        return f"blocks.{layer}.hook_resid_post", 1.0
    form, branches = branches_of(model, layer, site.part if site.kind == "head" else site.kind)
    # Where a part has several branches (experts and a shared MLP) the last one fires when all of them are known.
    return branches[-1].point, branches[-1].factor * form.carry


@dataclass(frozen=True)
class Steered(Shown):
    """One steered state or write.

    Attributes:
        site: where.
        batch: row of the batch.
        position: number among the row's real tokens.
        before: explanation of the state; ``None`` when a vector was added.
        after: the rewritten explanation.
        size: norm of what was added over the norm of the state or write.
    """

    site: str
    batch: int
    position: int
    before: str | None
    after: str | None
    size: float


class _ShiftingAdapter(Adapter):
    """Adds a shift to states at chosen positions; each is found once and given again, with and without the cache."""

    def __init__(
        self, site: Site | str, strength: Strength, positions: Positions, generated: Generated,
        attention_mask: Tensor | None,
    ) -> None:  # fmt: skip
        self.site = Site.parse(site)
        self.strength = strength if callable(strength) else check_number("strength", strength)
        self.attention_mask = attention_mask
        self.positions, self.generated = known_positions(positions, generated), generated
        self.reset()

    def reset(self) -> None:
        """Forget the running text and all rows."""
        self._text: RunningText | None = None
        self._text_start = 0
        self._shift: Tensor | None = None
        self._new: tuple[Tensor, Tensor, int] | None = None
        self._values: dict[str, Tensor] = {}
        self._rows: list[Steered] = []
        self._entry, self._factor = "", 1.0

    def hooks(self, model: Any) -> list[HookPair]:
        """Hook names and functions for a model; each call starts a new text.

        Raises:
            InputError: for a site that the model does not have.
        """
        known = model.hook_dict
        site = self.site.validate(model, known)
        last, self._factor = entry_point(model, site)
        self._entry = last
        parts = [name for name in points_of(model, site, known) if name != last]
        for point in (entry(0), *parts, last):
            if point not in known:
                raise unknown("hook point", point, known)
        self._model, self._text, self._shift, self._new = model, None, None, None
        starts = PassStarts(model, [*parts, last], known)
        keepers = [(name, self._keeper(name, starts)) for name in parts]
        return [*starts.hooks(self._start), *keepers, (last, self._changer(last, starts))]

    def results(self) -> list[Steered]:
        """What was changed, in the order in which the model came by; warns of positions that no text reached."""
        listed = [place for place in self.positions if place >= 0] if isinstance(self.positions, list) else []
        missing = sorted(set(listed) - {row.position for row in self._rows})
        if self._text is not None and (missing or not self._rows):
            what = f"positions {missing} were" if missing else f"no position of {self.positions!r} was"
            warnings.warn(
                f"{what} reached by this adapter, so nothing is changed there; its text has "
                f"{self._text.seen.shape[1]} tokens (padding included), generated={self.generated!r}",
                stacklevel=2,
            )
        return Rows(self._rows)

    @abstractmethod
    def _shifts(
        self, acts: Float[Tensor, "n d_model"], strength: Float[Tensor, " n"], row: Int[Tensor, " n"]
    ) -> tuple[Tensor, list[str | None], list[str | None]]:
        """What is added to each state, and its words before and after."""

    def _start(self, activation: Tensor, layer: int) -> None:
        states = activation.detach()
        if self._new is not None and self._text is not None:  # the last pass broke off before the site
            kept = self._text.seen.shape[1] - self._new[2]
            self._text.seen = self._text.seen[:, :kept]
            self._text = self._text if kept else None
        if self._text is None or layer != self._text_start or not self._text.goes_on(states):
            self._text, self._text_start, self._shift = RunningText.begin(states, 0), layer, None
        width = self._text.extend(states)
        chosen, number = choose_new(self._text, width, self.positions, self.generated, self.attention_mask)
        self._new, self._values = (chosen, number, width), {}

    def _keeper(self, name: str, starts: PassStarts) -> Callable[..., None]:
        def keep(activation: Tensor, hook: Any) -> None:
            if self._new is not None and not starts.discards(name):
                self._values[name] = self._chosen(activation)

        return keep

    def _changer(self, name: str, starts: PassStarts) -> Callable[..., Tensor | None]:
        def change(activation: Tensor, hook: Any) -> Tensor | None:
            if starts.discards(name):
                return None
            if self._new is None and starts.behind:
                raise starts.missed(name)
            return self._steer(activation)

        return change

    def _chosen(self, activation: Tensor) -> Tensor:
        """Values at the newly chosen positions, as a tensor that is none of inference mode's."""
        chosen, _, width = self._new  # type: ignore[misc]
        return activation.detach()[:, activation.shape[1] - width :][chosen.to(activation.device)].clone()

    def _steer(self, activation: Tensor) -> Tensor | None:
        if self._new is not None:
            with torch.inference_mode(False), torch.no_grad():
                self._values = {name: value.to(activation.device) for name, value in self._values.items()}
                self._values[self._entry] = self._chosen(activation)
                found = self._new_shift(activation)
                self._shift = found if self._shift is None else torch.cat([self._shift, found], 1)
            self._new = None
        if self._shift is None or not bool(self._shift.any()):
            return None
        shift = self._shift[:, self._shift.shape[1] - activation.shape[1] :]
        return torch.where((shift != 0).any(-1, keepdim=True), activation + shift.to(activation), activation)

    def _new_shift(self, like: Tensor) -> Tensor:
        chosen, number, width = self._new  # type: ignore[misc]
        shift = torch.zeros(len(like), width, like.shape[-1], dtype=like.dtype, device=like.device)
        row, column = torch.nonzero(chosen, as_tuple=True)
        if not len(row):
            return shift
        places = number[row, column].tolist()
        strength = torch.tensor([self._strength_at(place) for place in places])
        acts = self._read()
        added, before, after = self._shifts(acts, strength.float().to(acts.device), row)
        shift[row, column] = (added.float() / self._factor).to(shift)
        sizes = (added.float().norm(dim=-1) / acts.float().norm(dim=-1).clamp_min(1e-12)).tolist()
        for listed in zip(row.tolist(), places, before, after, sizes, strict=True):
            self._rows.append(Steered(str(self.site), *listed))
        return shift

    def _strength_at(self, place: int) -> float:
        if not callable(self.strength):
            return self.strength
        return check_number(f"strength at position {place}", self.strength(place))

    def _read(self) -> Float[Tensor, "n d_model"]:
        """The states or writes at the newly chosen positions."""
        if self.site.kind != "head":
            return site_values(self._model, self.site, self._values)
        layer, head = int(self.site.layer or 0), int(self.site.head or 0)
        return head_sum(self._model, layer, self.site.part, self._values).writes([head])[:, 0]


class SteeringAdapter(_ShiftingAdapter):
    """Steers by editing words: reads the state, verbalizes, rewrites, reconstructs, and puts the change into the state.

    The model goes on from the changed state. Nothing is changed where the rewriter changes nothing (``delta``) or the
    strength is 0, bit for bit. See :func:`tl_nla.steering.change_states` for the two modes. Several layers are steered
    by several adapters, each with the NLA of its layer: ``attach(model, lower, upper)``; the upper one reads what the
    lower one changed.

    Args:
        nla: the NLA of the site: anything with ``verbalize(acts)`` and ``reconstruct(texts)``.
        site: a state, or a write (of a head, an attention, an MLP, a block). The change of a write is added where the
            write enters the residual stream.
        rewrite: from explanation to explanation; see :mod:`tl_nla.steering.rewriters`. One for all, or one a row of
            the batch.
        mode: ``"delta"`` or ``"replace"``.
        strength: a number, or a schedule from the position to a number.
        positions: see :class:`tl_nla.adapters.ReadingAdapter`.
        generated: steer generated tokens as well (``True``), not at all, or ``"only"`` them.
        settings: for ``nla.verbalize``, such as ``max_new_tokens``.

    Attributes:
        attention_mask: of a padded prompt; set it before the model runs.

    Raises:
        InputError: for an unknown mode or site, or what is no rewriter.
    """

    def __init__(
        self, nla: Any, site: Site | str, rewrite: Rewriter | Sequence[Rewriter], mode: str = "delta",
        strength: Strength = 1.0, positions: Positions = "all", generated: Generated = True, **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__(site, strength, positions, generated, None)
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
        check_rewriters(rewrite)
        self.nla, self.rewrite, self.mode, self.settings = nla, rewrite, mode, settings

    def _start(self, activation: Tensor, layer: int) -> None:
        if not callable(self.rewrite) and len(self.rewrite) != len(activation):
            raise InputError(f"{len(self.rewrite)} rewriters for a batch of {len(activation)}; give one, or one a row")
        super()._start(activation, layer)

    def hooks(self, model: Any) -> list[HookPair]:
        """As for every adapter; also refuses a model of another width than the NLA's."""
        refuse_unfit(model, self.nla)
        return super().hooks(model)

    def _shifts(self, acts: Tensor, strength: Tensor, row: Tensor) -> tuple[Tensor, list[str | None], list[str | None]]:
        rewrite = self.rewrite if callable(self.rewrite) else [self.rewrite[number] for number in row.tolist()]
        change = change_states(self.nla, acts, rewrite, self.mode, strength, **self.settings)
        return change.shift, list(change.before), list(change.after)


class VectorAdapter(_ShiftingAdapter):
    """Adds a steering vector, scaled to each state's norm: the baselines in the same interface.

    Args:
        vector: see :class:`tl_nla.steering.SteeringVector`.
        strength: factor on top of the vector's own, or a schedule.
        positions: see :class:`tl_nla.adapters.ReadingAdapter`.
        generated: whether generated tokens are steered.
        attention_mask: of the prompt.
    """

    def __init__(
        self, vector: SteeringVector, strength: Strength = 1.0, positions: Positions = "all",
        generated: Generated = True, attention_mask: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(vector.site, strength, positions, generated, attention_mask)
        self.vector = vector

    def hooks(self, model: Any) -> list[HookPair]:
        """As for every adapter; also refuses a model of another width than the vector's."""
        width, found = int(model.cfg.d_model), tuple(self.vector.vector.shape)
        if found != (width,):
            raise InputError(f"the steering vector has shape {found}, this model has d_model {width}")
        return super().hooks(model)

    def _shifts(self, acts: Tensor, strength: Tensor, row: Tensor) -> tuple[Tensor, list[str | None], list[str | None]]:
        scale = acts.float().norm(dim=-1, keepdim=True) / acts.shape[-1] ** 0.5
        shift = strength[:, None] * self.vector.strength * self.vector.vector.to(acts.device) * scale
        return shift, [None] * len(acts), [None] * len(acts)
