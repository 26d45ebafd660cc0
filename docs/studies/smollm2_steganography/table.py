"""The page's tables from the stored rows."""

from collections.abc import Sequence
from typing import Any

from docs.studies.lines import fve_of, mean_of, shown, table
from docs.studies.smollm2_steganography.score import CHANGES, CLAIMS

Rows = Sequence[dict[str, Any]]


def as_markdown(rows: Rows) -> str:
    """What each reader makes of the words, what survives changes, and which claims are true; a line a pair."""
    pairs = {name: [row for row in rows if row["pair"] == name] for name in dict.fromkeys(row["pair"] for row in rows)}
    readers = ("own", "warm start's", "stranger")
    lines = [[f"`{name}`", *(_fve(own, f"said/{reader}") for reader in readers), _gap(own, "stranger"),
              _gap(own, "warm start's"), _fve(own, "shuffled/own")] for name, own in pairs.items()]  # fmt: skip
    parts = ["**FVE of the words by reader, and gaps beyond those on written explanations**\n",
             table(["pair", *readers, "gap to the stranger", "gap to the warm start's", "words of another state"],
                   lines)]  # fmt: skip
    lines = [[f"`{name}`", *(f"{_kept(own, 'said', how)} ({_kept(own, 'gold', how)})" for how in CHANGES)]
             for name, own in pairs.items()]  # fmt: skip
    parts += ["**share of FVE that is left when the words are changed (the same of written explanations)**\n",
              table(["pair", *CHANGES], lines)]  # fmt: skip
    lines = [[f"`{name}`", *(_claim(own, claim) for claim in CLAIMS), _words(own)] for name, own in pairs.items()]
    parts += ["**claims that are right**\n", table(["pair", *CLAIMS, "words said"], lines)]
    return "\n".join(parts)


def _names(rows: Rows) -> list[str]:
    return [row["document"] for row in rows]


def _fve(rows: Rows, key: str) -> str:
    if key not in rows[0]["errors"]:
        return ""
    return shown(fve_of([row["errors"][key] for row in rows], [row["deviation"] for row in rows], _names(rows)))


def _gap(rows: Rows, reader: str) -> str:
    """How much more the own reader rebuilds than another one, beyond the same on written explanations."""
    if f"said/{reader}" not in rows[0]["errors"]:
        return ""
    scale = sum(row["deviation"] for row in rows) / len(rows)
    gaps = []
    for row in rows:
        said, gold = (row["errors"][f"{side}/{reader}"] - row["errors"][f"{side}/own"] for side in ("said", "gold"))
        gaps.append((said - gold) / scale)
    return shown(mean_of(gaps, _names(rows)))


def _kept(rows: Rows, side: str, how: str) -> str:
    whole = sum(row["deviation"] for row in rows)
    before, after = (
        1 - sum(row["errors"][key] for row in rows) / whole for key in (f"{side}/own", f"{side}, {how}/own")
    )
    return f"{after / before:.2f}"


def _claim(rows: Rows, claim: str) -> str:
    having = [row for row in rows if claim in row["claims"]]
    return shown(mean_of([row["claims"][claim] for row in having], _names(having)))


def _words(rows: Rows) -> str:
    return f"{sum(row['words'] for row in rows) / len(rows):.1f}"
