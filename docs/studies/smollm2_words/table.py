"""The page's tables from the stored rows."""

from collections.abc import Iterable, Sequence
from typing import Any

from docs.studies.lines import table

_LENGTHS = (4, 8, 16)
_CURVE = (
    *("oracle", "oracle, any norm", "pursuit", "topk", "context"),
    *("oracle, shuffled", "pursuit, shuffled", "topk, shuffled"),
    *("oracle − pursuit", "oracle, any norm − pursuit", "pursuit − topk"),
)
_KINDS = ("head", "attn", "mlp")


def tables(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """All tables by name."""
    makers = {
        "curve": _curve, "layers_above": _layers_above, "layers": _layers, "seeds": _seeds, "learning": _learning,
        "unseen": _unseen, "component": _component, "own_run": _own_run, "more": _more, "larger": _larger,
    }  # fmt: skip
    parts = {"layers": "curve", "layers_above": "curve", "seeds": "draws", "learning": "draws"}
    return {name: make([row for row in rows if row["part"] == parts.get(name, name)]) for name, make in makers.items()}


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """All tables that have rows, one after the other."""
    return "\n".join(f"{name}\n\n{text}" for name, text in tables(rows).items() if text.count("\n") > 2)


def _cell(rows: Iterable[dict[str, Any]]) -> str:
    found = list(rows)
    return f"{found[0]['fve']:.2f} [{found[0]['low']:.2f}, {found[0]['high']:.2f}]" if found else ""


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.2f} [{min(values):.2f}, {max(values):.2f}]" if values else ""


def _curve(rows: Sequence[dict[str, Any]]) -> str:
    own = [row for row in rows if row["site"] == "all"]
    lines = [[arm, *(_cell(row for row in own if (row["arm"], row["words"]) == (arm, words)) for words in _LENGTHS)]
             for arm in _CURVE]  # fmt: skip
    return table(["arm", *(f"{words} words" for words in _LENGTHS)], lines)


def _layers(rows: Sequence[dict[str, Any]]) -> str:
    sites = list(dict.fromkeys(row["site"] for row in rows if row["site"] != "all"))
    arms = [("topk", 8), ("pursuit", 8), ("oracle", 8), ("oracle − pursuit", 8), ("topk", 16), ("pursuit", 16),
            ("oracle", 16), ("oracle − pursuit", 16), ("context", 16)]  # fmt: skip
    lines = []
    for site in sites:
        own = {(row["arm"], row["words"]): row for row in rows if row["site"] == site}
        cells = [_cell([own[arm]]) if "−" in arm[0] else f"{own[arm]['fve']:.2f}" for arm in arms]
        lines.append(["L{}.H{}".format(*(site.split(".")[place] for place in (1, 4))), *cells])
    for words in _LENGTHS:
        apart = [
            row for row in rows if row["site"] != "all" and (row["arm"], row["words"]) == ("oracle − pursuit", words)
        ]
        above, below = sum(row["low"] > 0 for row in apart), sum(row["high"] < 0 for row in apart)
        told = f"{words} words: oracle above pursuit in {above} of {len(apart)} layers, below in {below}"
        lines.append([told, *[""] * len(arms)])
    return table(["head", *(f"{arm}, {words}" for arm, words in arms)], lines)


def _layers_above(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for arm in ("oracle − pursuit", "oracle, any norm − pursuit", "pursuit − topk"):
        cells = []
        for words in _LENGTHS:
            own = [row for row in rows if row["site"] != "all" and (row["arm"], row["words"]) == (arm, words)]
            above, below = sum(row["low"] > 0 for row in own), sum(row["high"] < 0 for row in own)
            cells.append(f"{above} above, {below} below")
        lines.append([arm, *cells])
    return table(["difference", *(f"{words} words" for words in _LENGTHS)], lines)


def _at(rows: Sequence[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def _seeds(rows: Sequence[dict[str, Any]]) -> str:
    # The largest number of positions that has several draws.
    most = max((row["positions"] for row in rows if row["seed"]), default=0)
    lines = []
    for kind in _KINDS:
        for words in _LENGTHS:
            own = _at(rows, kind=kind, words=words, positions=most)
            if own:
                spread = max(row["fve"] for row in own) - min(row["fve"] for row in own)
                lines.append([kind, str(words), *(_cell([row]) for row in own), f"{spread:.3f}"])
    return table(["kind", "words", *(f"draw {seed}" for seed in range(3)), "spread"], lines)


def _learning(rows: Sequence[dict[str, Any]]) -> str:
    sizes = sorted({row["positions"] for row in rows})
    lines = [[kind, str(words), *(_mean([row["fve"] for row in _at(rows, kind=kind, words=words, positions=size)])
                                  for size in sizes)] for kind in _KINDS for words in _LENGTHS]  # fmt: skip
    return table(["kind", "words", *(f"{size} positions" for size in sizes)], lines)


def _unseen(rows: Sequence[dict[str, Any]]) -> str:
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = [[arm, *(_cell(_at(rows, arm=arm, words=words)) for words in _LENGTHS)] for arm in arms]
    return table(["reader", *(f"{words} words" for words in _LENGTHS)], lines)


def _component(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for kind in ("attn", "mlp", "block"):
        own = _at(rows, kind=kind, words=16)
        right = [row["right"] for row in own if row["arm"] == "told"]
        cells = [_mean([row["fve"] for row in _at(rows, kind=kind, words=words, arm=arm)])
                 for words in _LENGTHS for arm in ("told", "given")]  # fmt: skip
        half = sum(row["fve"] >= 0.5 for row in own if row["arm"] == "given")
        lines.append([kind, _mean(right), *cells, f"{half} of {len(right)}"])
    heads = [f"{words} words, {arm}" for words in _LENGTHS for arm in ("told", "given")]
    return table(["kind", "told right", *heads, "layers with .5 at 16, given"], lines)


def _own_run(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        each = [row["fve"] for row in _at(rows, arm=arm, kind="one head")]
        cells = [_mean([row["fve"] for row in _at(rows, arm=arm, kind=kind)]) for kind in _KINDS]
        many = [f"{sum(value >= least for value in each)}" for least in (0.5, 0.9)]
        lines.append([arm, *cells, *many])
    return table(["arm", *_KINDS, "heads ≥ .5", "heads ≥ .9"], lines)


def _more(rows: Sequence[dict[str, Any]]) -> str:
    groups = list(dict.fromkeys((row["site"], row["fit"]) for row in rows))
    lines = []
    for site, fit in groups:
        cells = [_cell(_at(rows, site=site, fit=fit, words=words)) for words in _LENGTHS]
        lines.append([fit, f"MLP {site.split('.')[1]}", *cells])
    return table(["fit", "component", *(f"{words} words" for words in _LENGTHS)], lines)


def _larger(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    longest = max(_LENGTHS)
    for kind in ("mlp", "block"):
        together = _at(rows, site=f"all of kind {kind}")
        mine = [row for row in rows if "size" in row and ("mlp" in row["site"]) == (kind == "mlp")]
        sizes = sorted({row["size"] for row in mine})
        for size in sizes:
            fve = {words: [row["fve"] for row in _at(mine, size=size, words=words)] for words in _LENGTHS}
            above = f"{sum(value >= 0.5 for value in fve[longest])} of {len(fve[longest])}"
            first = [row["fve"] for row in _at(mine, size=sizes[0], words=longest)]
            gained = _mean([value - old for value, old in zip(fve[longest], first, strict=True)])
            cells = (
                [gained, *(_cell([{**row, "fve": row["gained"]}]) for row in together)] if size > sizes[0] else ["", ""]
            )
            lines.append([kind, f"{size:,}", *map(_mean, fve.values()), *cells, above])
    return table(
        [
            "kind",
            "words to choose from",
            *(f"{words} words" for words in _LENGTHS),
            "gained at 16, by layer",
            "all layers together",
            "layers with .5 at 16",
        ],
        lines,
    )
