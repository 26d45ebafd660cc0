"""What can be trusted on a model, in its precision and on its device: a short run that tries each thing."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.facts import ModelFacts, facts_of
from tl_nla.model.heads import out_projection
from tl_nla.model.probe import probe_tokens
from tl_nla.model.quantised import scheme_of
from tl_nla.model.reading import read
from tl_nla.model.rounding import Fit
from tl_nla.nla.provenance import versions
from tl_nla.notebook import table_html

EXACT, APPROXIMATE, REFUSED = "exact", "approximate", "refused"
_SKIP_TOLERANCE = 8.0
"""Roundings of the logits that a skip computed block by block may differ by from one that runs the whole model."""


@dataclass(frozen=True)
class CheckRow:
    """One thing that was tried.

    Attributes:
        capability: what.
        verdict: ``exact`` (up to the rounding of the model's precision), ``approximate`` or ``refused``.
        error: the largest error as a share of the numbers' own size; ``None`` where nothing was compared.
        detail: where it holds, or why not, and what can be used instead.
    """

    capability: str
    verdict: str
    error: float | None
    detail: str


@dataclass(frozen=True)
class ModelCheck:
    """What :func:`check` found; true when nothing is worse than exact or honestly refused.

    Attributes:
        model: its name.
        dtype: precision of its weights.
        device: where it is.
        quantization: how its linear layers are held; ``None`` for plain weights.
        versions: of the libraries that run it.
        rows: one for each capability.
        seconds: how long it took.
    """

    model: str
    dtype: str
    device: str
    quantization: str | None
    versions: dict[str, str]
    rows: tuple[CheckRow, ...]
    seconds: float

    def __bool__(self) -> bool:
        return all(row.verdict == EXACT for row in self.rows)

    def __getitem__(self, capability: str) -> CheckRow:
        for row in self.rows:
            if row.capability == capability:
                return row
        known = ", ".join(row.capability for row in self.rows)
        raise InputError(f"nothing was checked under {capability!r}; there are {known}")

    def to_dict(self) -> dict[str, Any]:
        """The check as JSON holds it."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "trusted": bool(self)}

    def to_json(self) -> str:
        """The check as JSON text."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def _repr_html_(self) -> str:
        return table_html(
            ("capability", "verdict", "error", "detail"),
            [(row.capability, row.verdict, row.error, row.detail) for row in self.rows],
            f"{self.model}, {self.dtype} on {self.device}",
        )

    def __str__(self) -> str:
        width = max(len(row.capability) for row in self.rows)
        held = "" if self.quantization is None else f" with {self.quantization} weights"
        lines = [f"{self.model}, {self.dtype}{held} on {self.device}"]
        for row in self.rows:
            error = "" if row.error is None else f"{row.error:.1e}"
            lines.append(f"{row.capability:<{width}}  {row.verdict:<11}  {error:>8}  {row.detail}")
        return "\n".join(lines)


def check(model: Any, length: int = 12) -> ModelCheck:
    """Try on a few tokens what this package does with a model, and tell what can be trusted.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        length: how many tokens are run.

    Returns:
        One row each for states, block sums, heads, final norm, read-out, direct attribution, skips, and generation with
        the key-value cache against without.

    Raises:
        InputError: when the model cannot be run at all.

    Example:
        >>> import tl_nla
        >>> bool(tl_nla.check(tl_nla.load_tiny().model))
        True
    """
    begun = time.perf_counter()
    facts = facts_of(model)
    tokens = _tokens(model, length)
    tried: tuple[tuple[str, Callable[[], CheckRow]], ...] = (
        ("states", lambda: _states(model, tokens)),
        ("block sums", lambda: _blocks(facts)),
        ("heads", lambda: _heads(model, facts, tokens)),
        ("final norm", lambda: _fit("final norm", facts.readout.norm.fit)),
        ("read-out", lambda: _fit("read-out", facts.readout.fit)),
        ("direct attribution", lambda: _direct(model, tokens)),
        ("skips", lambda: _skips(model, facts, tokens)),
        ("cached generation", lambda: _generation(model, tokens)),
    )
    rows = []
    for capability, run in tried:
        try:
            rows.append(run())
        except InputError as error:
            rows.append(CheckRow(capability, REFUSED, None, str(error)))
    first = next(iter(model.parameters()), torch.zeros(()))
    return ModelCheck(
        _name(model), str(first.dtype).removeprefix("torch."), str(first.device), scheme_of(model), versions(),
        tuple(rows), time.perf_counter() - begun,
    )  # fmt: skip


def _tokens(model: Any, length: int) -> Tensor:
    count = max(2, min(length, int(getattr(model.cfg, "n_ctx", length) or length) - _NEW))
    few = probe_tokens(model)
    return few.repeat(1, -(-count // few.shape[1]))[:, :count]


def _name(model: Any) -> str:
    return str(getattr(model.cfg, "model_name", None) or type(model).__name__).rstrip("/").rsplit("/", 1)[-1]


def _fit(capability: str, fit: Fit) -> CheckRow:
    if fit.exact:
        return CheckRow(capability, EXACT, fit.error, f"{fit.excess:.2g} of what rounding permits")
    return CheckRow(capability, REFUSED, fit.error, f"not reproduced by any known form: {fit}")


def _states(model: Any, tokens: Tensor) -> CheckRow:
    layers = range(int(model.cfg.n_layers))
    sites = [f"blocks.{layer}.hook_resid_{place}" for layer in layers for place in ("pre", "post")]
    reading = read(model, tokens, sites)
    gaps = [_gap(reading[later], reading[earlier]) for earlier, later in zip(sites[1::2], sites[2::2], strict=False)]
    broken = [layer for layer, gap in enumerate(gaps) if gap > 0]
    if broken:
        detail = f"the output of blocks.{broken[0]} is not the input of the next block"
        return CheckRow("states", APPROXIMATE, max(gaps), detail)
    if not all(bool(torch.isfinite(reading[site]).all()) for site in sites):
        return CheckRow("states", REFUSED, None, "some states are not finite on random tokens")
    return CheckRow("states", EXACT, 0.0, f"{len(sites)} read; each block's output is the next one's input")


def _gap(later: Tensor, earlier: Tensor) -> float:
    difference = (later.float() - earlier.to(later.device).float()).norm()
    return (difference / earlier.float().norm().clamp_min(1e-30)).item()


def _blocks(facts: ModelFacts) -> CheckRow:
    whole = [form.layer for form in facts.blocks if not form.branches]
    worst = max(form.fit.error for form in facts.blocks)
    if whole:
        detail = f"blocks {_some(whole)} are no sum of parts that hooks show; they can be read whole"
        return CheckRow("block sums", REFUSED if len(whole) == len(facts.blocks) else APPROXIMATE, worst, detail)
    kinds = sorted({kind for form in facts.blocks for kind in form.kinds})
    return CheckRow("block sums", EXACT, worst, f"parts of the {len(facts.blocks)} blocks: {', '.join(kinds)}")


def _some(layers: list[int]) -> str:
    return ", ".join(map(str, layers[:4])) + (", ..." if len(layers) > 4 else "")


def _heads(model: Any, facts: ModelFacts, tokens: Tensor) -> CheckRow:
    counts, none, wrong = {}, [], []
    for form in facts.blocks:
        for part in (kind for kind in ("attn", "mixer") if kind in form.kinds):
            try:
                counts[form.layer, part] = out_projection(model, form.layer, part).heads
            except InputError as error:
                none.append(str(error))
    if not counts:
        return CheckRow("heads", REFUSED, None, none[0] if none else "no block has parts with heads")
    reading = read(model, tokens, [f"blocks.{layer}.{part}.head.0" for layer, part in counts])
    fits = []
    for layer, part in counts:
        try:
            fits.append(reading.sum_of_heads(layer, part).fit)
        except InputError as error:
            wrong.append(str(error))
    if not fits:
        return CheckRow("heads", REFUSED, None, wrong[0])
    detail = f"{sum(counts.values())} heads in {len(counts)} layers"
    if wrong or none:  # layers that have no heads are told; layers whose heads do not add up are no longer exact
        detail = f"{detail}; elsewhere: {(wrong or none)[0]}"
    exact = not wrong and all(fit.exact for fit in fits)
    return CheckRow("heads", EXACT if exact else APPROXIMATE, max(fit.error for fit in fits), detail)


def _direct(model: Any, tokens: Tensor) -> CheckRow:
    from tl_nla.attribution.direct import direct_attribution

    predicted = tokens.roll(-1, 1) % int(model.W_U.shape[1])
    found = direct_attribution(model, tokens, predicted, unit="component")
    share = found.unaccounted_share.max().item()
    detail = "largest part of the logits' range that is unaccounted for"
    return CheckRow("direct attribution", EXACT if share <= 0.01 else APPROXIMATE, share, detail)


def _skips(model: Any, facts: ModelFacts, tokens: Tensor) -> CheckRow:
    from tl_nla.attribution.capture import capture
    from tl_nla.attribution.components import all_components
    from tl_nla.attribution.exactness import all_positions_at_once, check_causal, check_writable, leave_out
    from tl_nla.attribution.readout import read_out_of
    from tl_nla.attribution.replay import replay, start_of
    from tl_nla.attribution.rerun import rerun

    clean, last = capture(model, tokens), tokens.shape[1] - 1
    readout = read_out_of(model, clean)
    check_causal(model, clean)
    parts = list(_one_of_each(all_components(model, ("block", "attn", "mixer", "mlp", "ple", "head")), facts))
    check_writable(model, clean, parts)
    starts = [start_of(model, clean, part) for part in parts]
    slow = rerun(model, clean, [start.only_at(clean, last) for start in starts], last)
    together = all_positions_at_once(model, clean)
    fast = replay(clean, starts) if together else leave_out(model, clean, starts, last)
    wanted, found = (readout.logits(states[:, 0, last:].flatten(0, 1)[None]).float() for states in (slow, fast))
    error = ((found - wanted).abs().amax() / (wanted.amax() - wanted.amin()).clamp_min(1e-30)).item()
    step = max(torch.finfo(clean.logits.dtype).eps, 256 * torch.finfo(torch.float32).eps)
    way = "all positions in one pass" if together else "one pass for each position"
    return CheckRow("skips", EXACT if error <= _SKIP_TOLERANCE * step else APPROXIMATE, error, way)


def _one_of_each(parts: list[Any], facts: ModelFacts) -> Iterator[Any]:
    """A component of each kind, from the middle of the model."""
    middle = len(facts.blocks) // 2
    for kind in dict.fromkeys(part.kind for part in parts):
        yield min((part for part in parts if part.kind == kind), key=lambda part: abs(part.layer - middle))


_NEW = 3
_GREEDY: dict[str, Any] = {"max_new_tokens": _NEW, "do_sample": False, "stop_at_eos": False, "verbose": False}


def _generation(model: Any, tokens: Tensor) -> CheckRow:
    from tl_nla.adapters import ReadingAdapter, attach

    last = f"blocks.{int(model.cfg.n_layers) - 1}.hook_resid_post"
    found = []
    for cached in (True, False):
        adapter = ReadingAdapter(last)
        try:
            with torch.no_grad(), attach(model, adapter):
                model.generate(tokens, use_past_kv_cache=cached, **_GREEDY)
        except InputError:
            raise
        except Exception as error:  # whatever generation raises, the other capabilities are told
            kind = "with" if cached else "without"
            detail = f"{kind} the cache: {type(error).__name__}: {error}"
            return CheckRow("cached generation", REFUSED, None, detail[:200])
        found.append(adapter.results())
    cached_states, plain = (reading[last].float() for reading in found)
    if cached_states.shape != plain.shape or not torch.equal(found[0].tokens, found[1].tokens):
        return CheckRow("cached generation", APPROXIMATE, None, "the cache leads to other tokens than no cache")
    gap = _gap(cached_states, plain)
    step = max(torch.finfo(found[0][last].dtype).eps, 256 * torch.finfo(torch.float32).eps)
    verdict = EXACT if gap <= _SKIP_TOLERANCE * step else APPROXIMATE
    return CheckRow("cached generation", verdict, gap, "states of generated tokens with the cache against without")
