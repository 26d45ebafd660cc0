"""The cells of a contribution report: the numbers of attribution and the words, component by component."""

from collections.abc import Iterator, Sequence
from typing import Any

from tl_nla.attribution.components import Component
from tl_nla.attribution.direct import DirectAttribution
from tl_nla.attribution.skips import SkipEffects
from tl_nla.reports.contribution_words import Words
from tl_nla.reports.report import Cell

_BIAS = "the same at every position: it depends on no token"
_ROUNDING = "what storing the residual stream in the model's precision added"


def cells_of(
    parts: Sequence[Component], direct: DirectAttribution, effects: SkipEffects | None, columns: Sequence[int],
    words: Words,
) -> Iterator[Cell]:  # fmt: skip
    """Every cell: embedding, the components of each layer with its biases, rounding and the final bias."""
    values = dict(zip(direct.labels, direct.values[:, 0].tolist(), strict=True))
    skips = _skips(effects)
    layers = 1 + max(part.layer for part in parts)
    yield from _bare(-1, "embed", values["embed"], columns, words)
    for layer in range(layers):
        for number, part in enumerate(parts):
            if part.layer == layer:
                yield from _written(part, values, [row[number] for row in skips], columns, words)
        for kind in ("attn", "mixer"):
            if (label := f"blocks.{layer}.{kind}.bias") in values:
                yield from _bare(layer, "bias", values[label], columns, words, kind)
    yield from _bare(layers, "rounding", values["rounding"], columns, words)
    yield from _bare(layers, "bias", values["bias"], columns, words)


def _skips(effects: SkipEffects | None) -> list[list[list[Any]]]:
    """KL, change of the target and flip, by component and column; nothing where nothing was left out."""
    if effects is None or effects.target_change is None:
        return []
    return [values[:, 0].tolist() for values in (effects.kl, effects.target_change, effects.flip)]


def _bare(
    layer: int, component: str, values: Sequence[float], columns: Sequence[int], words: Words, part: str = "attn"
) -> Iterator[Cell]:
    """Cells of what is not read from the residual stream's writes: embedding and biases."""
    constant = _ROUNDING if component == "rounding" else _BIAS
    told = words.embed if component == "embed" else [(constant, [], [])] * len(columns)
    for column, value, (text, up, down) in zip(columns, values, told, strict=True):
        yield Cell(layer, component, None, column, short(value), explanation=text, promoted=up, suppressed=down,
                   part=part)  # fmt: skip


def _written(
    part: Component, values: dict[str, list[float]], skips: Sequence[Sequence[Any]], columns: Sequence[int],
    words: Words,
) -> Iterator[Cell]:  # fmt: skip
    site = str(part)
    added = [sum(terms) for terms in zip(*(values[label] for label in _labels(part, values)), strict=True)]
    for row, column in enumerate(columns):
        told = words.sites[site][row]
        skip: dict[str, Any] = {}
        if skips:
            kl, change, flip = (kind[row] for kind in skips)
            skip = {"skip_kl": short(kl), "skip_target_change": short(change), "skip_flip": bool(flip)}
        yield Cell(
            part.layer, part.kind, part.head, column, short(added[row]), strength=short(words.strengths[site][row]),
            sources=told.sources, source_positions=told.source_positions, promoted=told.promoted,
            suppressed=told.suppressed, explanation=told.explanation, part=part.part, **skip,
        )  # fmt: skip


def short(value: Any) -> float:
    """A float32 number without the digits that only float64 has: reports of long prompts halve."""
    return float(f"{float(value):.7g}")


def _labels(part: Component, values: dict[str, list[float]]) -> list[str]:
    """The terms of the direct attribution that a component consists of."""
    name = f"blocks.{part.layer}"
    if str(part) in values:
        return [str(part)]
    start = f"{name}." if part.kind == "block" else f"{name}.{part.kind}."
    return [label for label in values if label.startswith(start)]
