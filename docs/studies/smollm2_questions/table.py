"""The page's tables from the stored rows."""

from collections.abc import Callable, Sequence
from typing import Any

from docs.studies.lines import mean_of, shown, table
from docs.studies.scored import by_seed
from docs.studies.smollm2_questions.capture import KINDS
from docs.studies.smollm2_questions.reader import REPEATED, SEEDS

ARMS = ("all", "without attended", "without promoted", "without skip", "untrained", "all, another write", "usual",
        "text", "linear")  # fmt: skip
_TAUGHT = {"all": ("attended", "promoted", "skip"), "without attended": ("promoted", "skip"),
           "without promoted": ("attended", "skip"), "without skip": ("attended", "promoted"),
           "linear": KINDS}  # fmt: skip
_FREE = ("all", "without attended", "without promoted", "without skip", "untrained")
_INSTEAD = ("all", "without attended", "without promoted", "without skip", "untrained")
_OTHER = ", another write"

Rows = Sequence[dict[str, Any]]


def as_markdown(rows: Rows) -> str:
    """Right answers, right answers among ten, what is answered instead, what free explanations name, and each seed."""
    arms = [arm for arm in ARMS if arm in rows[0]["arms"]]
    lines = [[f"`{arm}`", *(_cell(rows, arm, kind, "right") for kind in KINDS)] for arm in arms]
    parts = ["**answers that are right; *slanted*: a question that the arm was not taught**\n",
             table(["arm", *KINDS], lines)]  # fmt: skip
    lines = [[f"`{arm}`", *(_cell(rows, arm, kind, "wins") for kind in KINDS[:3])] for arm in arms if arm != "text"]
    parts += ["**the right answer beats nine wrong ones (chance .1)**\n", table(["arm", *KINDS[:3]], lines)]
    lines = [[f"`{arm}`", asked, *(_instead(rows, arm, asked, kind) for kind in KINDS[:3])]
             for arm in _INSTEAD if arm in arms for asked in KINDS[:3]]  # fmt: skip
    parts += ["**what the answer is the truth of**\n", table(["arm", "asked for", *KINDS[:3]], lines)]
    lines = []
    for arm in (arm for arm in _FREE if arm in arms):
        cells = []
        for kind in KINDS[:3]:
            own, other = (_named(rows, name, kind) for name in (arm, f"{arm}, another write"))
            cells.append(f"{own} ({other.split(' ')[0]})")
        lines.append([f"`{arm}`", *cells])
    parts += ["**free explanations that name the word (those about another write of the head)**\n",
              table(["arm", *KINDS[:3]], lines)]  # fmt: skip
    return "\n".join([*parts, by_seed(_seeds(rows), _numbers())])


def _seeds(rows: Rows) -> Rows:
    """The arms that were trained by several seeds, under their plain names, one row a write and seed."""
    found = []
    for seed in SEEDS:
        end = "" if seed == SEEDS[0] else f", seed {seed}"
        for row in rows:
            if all(f"{arm}{end}" in row["arms"] for arm in REPEATED):
                own, usual = row["arms"], row["arms"]["usual"]
                arms = {f"{arm}{part}": own[f"{arm}{end}{part}"] for arm in REPEATED for part in ("", _OTHER)}
                found.append({"seed": seed, "asked": set(usual), "arms": arms})
    return found


def _numbers() -> dict[str, Callable[[Rows], float]]:
    """What is shown seed by seed."""

    def right(arm: str, kind: str) -> Callable[[Rows], float]:
        return lambda rows: _share([row["arms"][arm][kind][0] == "1" for row in rows if kind in row["arms"][arm]])

    def instead(arm: str) -> Callable[[Rows], float]:
        return lambda rows: _share(["p" in row["arms"][arm]["suppressed"][2:] for row in rows])

    def free(arm: str, kind: str) -> Callable[[Rows], float]:
        return lambda rows: _share([kind[0] in row["arms"][arm]["free"] for row in rows if kind in row["asked"]])

    found = {f"`{arm}`, {kind}": right(arm, kind) for arm in REPEATED for kind in KINDS}
    found |= {f"`{arm}`, asked for the suppressed word, says the promoted one": instead(arm) for arm in REPEATED}
    return found | {f"`{arm}`, {kind} word named freely": free(arm, kind)
                    for arm in ("all", "without skip", f"without skip{_OTHER}") for kind in KINDS[:2]}  # fmt: skip


def _share(values: Sequence[bool]) -> float:
    return sum(values) / max(1, len(values))


def _cell(rows: Rows, arm: str, kind: str, field: str) -> str:
    place = ("right", "wins").index(field)
    having = [row for row in rows if row["arms"][arm].get(kind, "--")[place] != "-"]
    if not having:
        return ""
    values = [float(row["arms"][arm][kind][place]) for row in having]
    found = shown(mean_of(values, [row["document"] for row in having]))
    taught = kind in _TAUGHT.get(arm.removesuffix(", another write"), ()) or arm in ("usual", "text")
    return found if taught else f"*{found}*"


def _instead(rows: Rows, arm: str, asked: str, kind: str) -> str:
    having = [row for row in rows if asked in row["arms"][arm] and kind in row["arms"]["usual"]]
    values = [float(kind[0] in row["arms"][arm][asked][2:]) for row in having]
    return shown(mean_of(values, [row["document"] for row in having]))


def _named(rows: Rows, arm: str, kind: str) -> str:
    having = [row for row in rows if kind in row["arms"]["usual"]]
    values = [float(kind[0] in row["arms"][arm]["free"]) for row in having]
    return shown(mean_of(values, [row["document"] for row in having]))
