"""The figure of the page: FVE by number of words, and by number of training positions."""

from collections.abc import Sequence
from typing import Any

_ARMS = {"oracle": "shipped oracle", "pursuit": "chosen jointly (pursuit)", "topk": "strongest words",
         "context": "raw context, as many tokens"}  # fmt: skip
_KINDS = {"head": "heads", "attn": "attentions", "mlp": "MLPs"}
_WORDS = 16


def draw(rows: Sequence[dict[str, Any]], path: str) -> None:
    """Draw both panels.

    Args:
        rows: stored scores.
        path: file to write; its ending chooses the format.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "tl-nla", "font.size": 9}):
        figure = Figure(figsize=(8.5, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (arm, label), marker in zip(_ARMS.items(), "os^x", strict=True):
            own = sorted(_rows(rows, part="curve", site="all", arm=arm), key=lambda row: row["words"])
            fve = [row["fve"] for row in own]
            apart = [[row["fve"] - row["low"] for row in own], [row["high"] - row["fve"] for row in own]]
            style = {"marker": marker, "markersize": 4, "linewidth": 1.2, "capsize": 2, "label": label}
            left.errorbar([row["words"] for row in own], fve, apart, **style)
        left.set(xlabel="words", ylabel="FVE beside the head's mean", xticks=(4, 8, 16), ylim=(0, 1))
        for (kind, label), marker in zip(_KINDS.items(), "os^", strict=True):
            own = _rows(rows, part="draws", kind=kind, words=_WORDS)
            sizes = sorted({row["positions"] for row in own})
            each = [[row["fve"] for row in own if row["positions"] == size] for size in sizes]
            middle = [sum(values) / len(values) for values in each]
            right.plot(sizes, middle, marker=marker, markersize=4, linewidth=1.2, label=f"{label}, {_WORDS} words")
            right.fill_between(sizes, [min(values) for values in each], [max(values) for values in each], alpha=0.2)
        right.set(xlabel="training positions (three draws each)", xscale="log", ylim=(0, 1))
        right.set_xticks(sizes, [f"{size:,}" for size in sizes])
        right.minorticks_off()
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, loc=(0.35, 0.14), fontsize=8)
        figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def _rows(rows: Sequence[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
