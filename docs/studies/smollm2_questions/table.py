"""The page's tables from the stored rows."""

from collections.abc import Sequence
from typing import Any

from docs.studies.lines import mean_of, shown, table
from docs.studies.smollm2_questions.capture import KINDS

ARMS = ("all", "without attended", "without promoted", "without skip", "untrained", "all, another write", "usual",
        "text", "linear")  # fmt: skip
_TAUGHT = {"all": ("attended", "promoted", "skip"), "without attended": ("promoted", "skip"),
           "without promoted": ("attended", "skip"), "without skip": ("attended", "promoted"),
           "linear": KINDS}  # fmt: skip
_FREE = ("all", "without attended", "without promoted", "without skip", "untrained")
_INSTEAD = ("all", "without attended", "without promoted", "untrained")

Rows = Sequence[dict[str, Any]]


def as_markdown(rows: Rows) -> str:
    """Right answers, right answers among ten, what is answered instead, and what free explanations name."""
    arms = [arm for arm in ARMS if arm in rows[0]["arms"]]
    lines = [[f"`{arm}`", *(_cell(rows, arm, kind, "right") for kind in KINDS)] for arm in arms]
    parts = ["**answers that are right; *slanted*: a question that the arm was not taught**\n",
             table(["arm", *KINDS], lines)]  # fmt: skip
    lines = [[f"`{arm}`", *(_cell(rows, arm, kind, "wins") for kind in KINDS[:3])] for arm in arms if arm != "text"]
    parts += ["**the right answer beats nine wrong ones (chance .1)**\n", table(["arm", *KINDS[:3]], lines)]
    lines = [[f"`{arm}`", asked, *(_instead(rows, arm, asked, kind) for kind in KINDS[:3])]
             for arm in _INSTEAD for asked in KINDS[:3]]  # fmt: skip
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
    return "\n".join(parts)


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
