"""From a model and a prompt to the contribution report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.attribution.capture import CleanRun, capture
from tl_nla.attribution.components import Component, all_components
from tl_nla.attribution.direct import UNACCOUNTED, Asked, DirectAttribution, attribute_run
from tl_nla.attribution.left_out import Way
from tl_nla.attribution.skips import SkipEffects, Wanted, effects_of_run
from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of
from tl_nla.model.positions import Positions, select_positions
from tl_nla.model.probe import lock_of
from tl_nla.model.reading import Reading, read
from tl_nla.oracle.labels import Vocabulary, relative_norm
from tl_nla.reports.contribution_inputs import prompt_ids, target_ids
from tl_nla.reports.contribution_words import Words, words_of
from tl_nla.reports.report import Cell, ContributionReport

KINDS = ("head", "attn", "mixer", "mlp", "ple", "block")
_PREDICTIONS = 3


def layer_contributions(
    model: Any, tokens: Int[Tensor, "..."] | str, oracle: Any = None, target: Any = None,
    positions: Positions = -1, *, against: Any = None, quantity: str | None = None, skips: bool = True,
    top_k: int = 4, tokenizer: Any = None, name: str | None = None, vocabulary: Vocabulary | None = None,
    max_unaccounted: float = UNACCOUNTED, prepend_bos: bool | None = None, **settings: Any,
) -> ContributionReport:  # fmt: skip
    """What every layer and head contributed to the next-token prediction at some positions of a prompt.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        tokens: token ids of one prompt, ``[pos]`` or ``[1, pos]``, or its text.
        oracle: a :class:`tl_nla.oracle.DiffOracle` that explains the writes; without one the explanations are labels
            computed from the model.
        target: the explained token by id or text, or ids ``[pos]``, one a column; the likeliest next one by default.
        positions: see :func:`tl_nla.model.positions.select_positions`; the last one by default.
        against: the other token of a logit difference, as ``target``.
        quantity: ``logit``, ``difference`` or ``log_prob`` (see :func:`tl_nla.attribution.direct_attribution`).
        skips: whether skip effects are computed. Where the model permits none they are left out; ``notes`` say why.
        top_k: tokens named as promoted and as suppressed.
        tokenizer: of the model, when it carries none.
        name: of the model, for the report.
        vocabulary: the tokens that may be named as promoted or suppressed, such as
            :func:`tl_nla.oracle.labels.expected_vocabulary` of some texts; every printable one when ``None``.
        max_unaccounted: share of the range of a position's logits that the parts may leave unexplained. More than one
            hundredth is told as a warning on every view of the report.
        prepend_bos: whether a begin token stands before a text, see :class:`tl_nla.model.text.TextEncoder`.
        settings: for ``oracle.explain``, greedy by default; none without an oracle.

    Returns:
        The report. Skips are exact and position-local; direct contributions sum to the model's own number less what is
        reported as unaccounted for.

    Raises:
        InputError: the prompt or target cannot be used, or more is unaccounted for than ``max_unaccounted``.
    """
    _check_settings(oracle, settings)
    tokenizer = tokenizer if tokenizer is not None else getattr(model, "tokenizer", None)
    ids = prompt_ids(model, tokens, tokenizer, prepend_bos)
    columns = torch.nonzero(select_positions(ids, positions, None, tokenizer)[0]).flatten()
    facts_of(model)  # whether the model can be run at all, before anything else
    clean = capture(model, ids, solve=skips)
    logits = clean.logits.float()
    chosen = logits.argmax(-1) if target is None else target_ids(model, target, ids, tokenizer, "target")
    other = None if against is None else target_ids(model, against, ids, tokenizer, "against")
    asked = Asked(chosen, other, quantity or ("logit" if other is None else "difference"), "head")
    asked.check(model)
    direct = attribute_run(model, clean, asked, float("inf"))
    _check_share(direct, columns, max_unaccounted)
    parts = all_components(model, KINDS)
    effects, notes = _effects(model, clean, parts, chosen, columns.tolist()) if skips else (None, [])
    reading = read(model, ids, [str(part) for part in parts], columns.tolist())
    words = words_of(model, ids, reading, tokenizer, oracle, top_k, settings, vocabulary)
    cells, writes = _cells(parts, direct, effects, reading, words)
    return ContributionReport(
        **_heading(model, ids, logits, columns, tokenizer, words), **_sums(direct, columns),
        model=name or Path(str(getattr(model.cfg, "model_name", None) or type(model).__name__)).name,
        targets=words.texts_of(chosen[0, columns]), against=() if other is None else words.texts_of(other[0, columns]),
        cells=tuple(cells), explained_by="labels" if oracle is None else "oracle",
        notes=(*direct.notes, *notes, *words.notes), writes=writes,
    )  # fmt: skip


def _check_settings(oracle: Any, settings: Mapping[str, Any]) -> None:
    """A misspelt argument would else be taken for a setting that nobody reads."""
    if oracle is None and settings:
        raise InputError(
            f"unknown argument {', '.join(settings)}; further settings are for oracle.explain, and no oracle was given"
        )


def _heading(model: Any, ids: Tensor, logits: Tensor, columns: Tensor, tokenizer: Any, words: Words) -> dict[str, Any]:
    """What a report says of the prompt, and of what the model makes of it."""
    tokens = words.texts_of(ids[0])
    likely = logits[0, columns].softmax(-1).topk(min(_PREDICTIONS, logits.shape[-1]), dim=-1)
    return {
        "prompt": "".join(tokens) if tokenizer is None else tokenizer.decode(ids[0].tolist()),
        "tokens": tokens, "positions": tuple(columns.tolist()),
        "predictions": tuple(tuple(zip(words.texts_of(row_ids), row.tolist(), strict=True)) for row_ids, row in
                             zip(likely.indices, likely.values, strict=True)),
        "n_layers": int(model.cfg.n_layers), "n_heads": int(model.cfg.n_heads),
    }  # fmt: skip


def _sums(direct: DirectAttribution, columns: Tensor) -> dict[str, Any]:
    """What is explained, and how much of it the parts leave over."""
    return {
        "target_kind": direct.quantity, "totals": tuple(direct.total[0, columns].tolist()),
        "unaccounted": _column(direct.unaccounted, columns),
        "unaccounted_share": _column(direct.unaccounted_share, columns),
    }  # fmt: skip


def _column(values: Tensor, columns: Tensor) -> tuple[float, ...]:
    return tuple(_short(value) for value in values[0, columns.to(values.device)].tolist())


def _check_share(direct: DirectAttribution, columns: Tensor, allowed: float) -> None:
    worst = max(_column(direct.unaccounted_share, columns))
    if not worst <= allowed:
        raise InputError(
            f"{worst:.1%} of the range of the logits is unaccounted for ({allowed:.0%} is allowed), so this report "
            "would mislead. tl_nla.attribution.direct_attribution says what is at fault; max_unaccounted=1 shows it "
            "all the same"
        )


def _effects(
    model: Any, clean: CleanRun, parts: list[Component], targets: Tensor, columns: list[int]
) -> tuple[SkipEffects | None, list[str]]:
    try:
        with lock_of(model), torch.no_grad():
            return effects_of_run(model, clean, Wanted(parts, Way(False, columns), targets, 1)), []
    except InputError as error:
        return None, [f"skips were left out: {error}"]


def _cells(
    parts: list[Component], direct: DirectAttribution, effects: SkipEffects | None, reading: Reading, words: Words
) -> tuple[list[Cell], Tensor]:
    columns = reading.column.tolist()
    layers = 1 + max(part.layer for part in parts)
    cells = [_bare(-1, "embed", "embed", direct, columns, words)]
    writes = []
    for layer in range(layers):
        for part in (part for part in parts if part.layer == layer):
            cells.append(_written(part, direct, effects, reading, words))
            writes.append(reading.precise(str(part)).float().cpu())
        for kind in ("attn", "mixer"):
            if (label := f"blocks.{layer}.{kind}.bias") in direct.labels:
                cells.append(_bare(layer, "bias", label, direct, columns, words, kind))
    cells.append(_bare(layers, "rounding", "rounding", direct, columns, words))
    cells.append(_bare(layers, "bias", "bias", direct, columns, words))
    return [cell for row in cells for cell in row], torch.cat(writes)


def _bare(
    layer: int, component: str, label: str, direct: DirectAttribution, columns: list[int], words: Words,
    part: str = "attn",
) -> list[Cell]:  # fmt: skip
    """Cells of what is not read from the residual stream's writes: embedding and biases."""
    values = [_short(value) for value in direct[label][0, columns].tolist()]
    constant = _ROUNDING if component == "rounding" else _BIAS
    told = words.embed if component == "embed" else [(constant, [], [])] * len(columns)
    return [Cell(layer, component, None, column, value, explanation=text, promoted=up, suppressed=down, part=part)
            for column, value, (text, up, down) in zip(columns, values, told, strict=True)]  # fmt: skip


_BIAS = "the same at every position: it depends on no token"
_ROUNDING = "what storing the residual stream in the model's precision added"


def _written(
    part: Component, direct: DirectAttribution, effects: SkipEffects | None, reading: Reading, words: Words
) -> list[Cell]:
    site, columns = str(part), reading.column.tolist()
    added = torch.stack([direct[label] for label in _labels(part, direct)]).sum(0)[0, columns].tolist()
    strength = relative_norm(reading.precise(site), reading.before(site).float()).tolist()
    cells = []
    for row, column in enumerate(columns):
        skip: dict[str, Any] = {}
        if effects is not None and effects.target_change is not None:
            place = effects.components.index(part), 0, column
            skip = {"skip_kl": _short(effects.kl[place]), "skip_target_change": _short(effects.target_change[place]),
                    "skip_flip": bool(effects.flip[place])}  # fmt: skip
        told = words.sites[site][row]
        cells.append(Cell(
            part.layer, part.kind, part.head, column, _short(added[row]), strength=_short(strength[row]),
            sources=told.sources, source_positions=told.source_positions, promoted=told.promoted,
            suppressed=told.suppressed, explanation=told.explanation, part=part.part, **skip,
        ))  # fmt: skip
    return cells


def _short(value: Any) -> float:
    """A float32 number without the digits that only float64 has: reports of long prompts halve."""
    return float(f"{float(value):.7g}")


def _labels(part: Component, direct: DirectAttribution) -> list[str]:
    """The terms of the direct attribution that a component consists of."""
    name = f"blocks.{part.layer}"
    if part.kind == "block":
        return [label for label in direct.labels if label == name or label.startswith(f"{name}.")]
    own = f"{name}.{part.kind}"
    if str(part) in direct.labels:
        return [str(part)]
    return [label for label in direct.labels if label.startswith(f"{own}.")]
