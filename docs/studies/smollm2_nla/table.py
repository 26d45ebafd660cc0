"""The page's tables from the stored rows."""

import json
from pathlib import Path
from typing import Any

import torch

from docs.studies.smollm2_nla.score import another_document, claims
from tl_nla.benchmark.bootstrap import Interval, fve_interval, mean_interval, ratio_interval
from tl_nla.faithfulness.short_claims import ShortTruth, check_short, short_claims, short_parts

ARMS = (
    "best", "best, sure", "beams", "beams, sure", "explanation", "sure", "gold", "context", "context, same reader",
    "linear", "mean", "shuffled", "beams, shuffled", "best, shuffled", "empty",
)  # fmt: skip
NAMES = {
    "best": "best of 8", "best, sure": "best of 8, sure words", "beams": "beam search",
    "beams, sure": "beam search, sure words", "sure": "explanation, sure words",
    "beams, shuffled": "beam search, shuffled", "best, shuffled": "best of 8, shuffled",
}  # fmt: skip


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Stored rows."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """FVE of every arm over all rows and by kind of text, and the accuracy of claims; 95% intervals over documents."""
    kinds = sorted({row["kind"] for row in rows})
    lines = ["| arm | FVE | " + " | ".join(kinds) + " |", "|---" * (2 + len(kinds)) + "|"]
    for arm in ARMS:
        if arm == "mean" or arm in rows[0]["errors"]:
            cells = [_shown(_fve(rows, arm))]
            cells += [f"{_fve([row for row in rows if row['kind'] == kind], arm).value:.2f}" for kind in kinds]
            lines.append(f"| {NAMES.get(arm, arm)} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| claim | greedy | beam search | best of 8 | said of a state of another document | rows |",
        "|---|---|---|---|---|---|",
    ]
    others = another_document([row["document"] for row in rows])
    wrong = [{**row, "claims": claims(rows[other]["said"], row["gold"])}
             for row, other in zip(rows, others, strict=True)]  # fmt: skip
    beams, best = ([{**row, "claims": row[f"{arm}_claims"]} for row in rows] for arm in ("beams", "best"))
    for name in sorted({name for row in rows for name in row["claims"]}):
        found, searched, chosen, chance = (_over([row for row in side if name in row["claims"]], name)
                                           for side in (rows, beams, best, wrong))  # fmt: skip
        cells = [_shown(found), _shown(searched), _shown(chosen), f"{chance.value:.2f}", str(found.n)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += _precision(rows)
    different = len({row["said"] for row in rows}) / len(rows)
    return "\n".join([*lines, "", f"Different explanations: {different:.2f} of the rows."]) + "\n"


def _precision(rows: list[dict[str, Any]]) -> list[str]:
    """How many claims are made, and how many are true: all, at a known place, at any place, and of next words."""
    heads = ("words", "claims a state", "of them true", "recent words at their place", "at any place", "next words")
    lines = ["", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in ("explanation", "sure", "beams", "beams, sure", "best", "best, sure"):
        found = [_verdicts(row["said" if name == "explanation" else name], row["gold"]) for row in rows]
        made = sum(len(own["all"]) for own in found) / len(rows)
        cells = [_shown(_share(found, rows, kind)) for kind in ("all", "place", "any", "next")]
        lines.append(f"| {NAMES.get(name, name)} | {made:.1f} | " + " | ".join(cells) + " |")
    return lines


def _verdicts(said: str, gold: str) -> dict[str, list[bool]]:
    truth = ShortTruth(*map(tuple, short_parts(gold)))
    found: dict[str, list[bool]] = {"all": [], "place": [], "any": [], "next": []}
    for claim in short_claims(said):
        true = check_short(claim, truth) == "true"
        found["all"].append(true)
        if claim.type == "next":
            found["next"].append(true)
        else:
            found["place"] += [true] if claim.subject else []
            found["any"].append(claim.value in truth.recent)
    return found


def _share(found: list[dict[str, list[bool]]], rows: list[dict[str, Any]], kind: str) -> Interval:
    true, made = (torch.tensor([count(own[kind]) for own in found], dtype=torch.float64) for count in (sum, len))
    return ratio_interval(true, made, _documents(rows), generator=_draws())


def _fve(rows: list[dict[str, Any]], arm: str) -> Interval:
    errors = [row["deviation"] if arm == "mean" else row["errors"][arm] for row in rows]
    deviations = torch.tensor([row["deviation"] for row in rows], dtype=torch.float64)
    return fve_interval(torch.tensor(errors, dtype=torch.float64), deviations, _documents(rows), generator=_draws())


def _over(rows: list[dict[str, Any]], name: str) -> Interval:
    values = torch.tensor([row["claims"][name] for row in rows], dtype=torch.float64)
    return mean_interval(values, _documents(rows), generator=_draws())


def _documents(rows: list[dict[str, Any]]) -> torch.Tensor:
    names = {name: number for number, name in enumerate(dict.fromkeys(row["document"] for row in rows))}
    return torch.tensor([names[row["document"]] for row in rows])


def _draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _shown(found: Interval) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
