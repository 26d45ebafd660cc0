"""Row scores of withholding: words as they were and withheld, read before and after training on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.benchmark.bootstrap import Interval, fve_interval, ratio_interval, statistic_interval
from tl_nla.benchmark.results import Row
from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.data import ExplainedStates
from tl_nla.faithfulness.scoring import Reconstruct
from tl_nla.metrics import squared_deviations, squared_errors
from tl_nla.storyworld.claims import check, made_claims, parse_claims

FOLDER = Path(__file__).parent / "rows"
ARMS = ("as_they_were", "withheld", "withheld_trained", "as_they_were_trained")
"""Words and reader: as they were; withheld, same reader; withheld, reader trained on such; the control of as much
training on the words as they were."""
_COUNTS = ("said", "true", "facts", "facts_true", "expected", "found", "facts_expected", "facts_found")


@dataclass
class WithholdingRows:
    """Row scores of one pair.

    Attributes:
        seed: of the pair.
        document: of each row.
        deviation: squared distance of each normalised state to the training mean.
        errors: arm -> squared error of each row.
        counts: arm -> claims ``[rows, 8]``: said, true, said about facts, true about facts, expected by the written
            text, found, expected facts, found facts.
    """

    seed: int
    document: Int[Tensor, " n"]
    deviation: Float[Tensor, " n"]
    errors: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)


def score(
    states: ExplainedStates,
    mean: Float[Tensor, " d_model"],
    arms: Mapping[str, tuple[list[str], Reconstruct]],
    seed: int = 0,
) -> WithholdingRows:
    """Score words by whether they are true and by what their reader makes of them.

    Args:
        states: what is explained, with truths and written explanations.
        mean: the training set's mean of normalised states.
        arms: name -> words, one a state, and the reconstructor that reads them.
        seed: of the pair.
    """
    rows = WithholdingRows(seed, states.document, squared_deviations(states.acts, mean))
    for arm, (texts, read) in arms.items():
        rows.errors[arm] = squared_errors(read(texts), states.acts)
        triples = zip(texts, states.truths, states.explanations, strict=True)
        rows.counts[arm] = torch.tensor([_count(*triple) for triple in triples], dtype=torch.int8)
    return rows


def _count(text: str, truth: object, written: str) -> list[int]:
    said = [(claim, check(claim, truth) == "true") for claim in made_claims(text, truth)]  # type: ignore[arg-type]
    expected, own = parse_claims(written), {claim for claim, _ in said}
    counts = []
    for only_facts in (False, True):
        mine = [right for claim, right in said if not only_facts or claim.type not in ("recent", "next")]
        counts.append([len(mine), sum(mine)])
    for only_facts in (False, True):
        wanted = [claim for claim in expected if not only_facts or claim.type not in ("recent", "next")]
        counts.append([len(wanted), sum(claim in own for claim in wanted)])
    return [number for pair in counts for number in pair]


def precision(rows: WithholdingRows, arm: str) -> float:
    """True claims over claims said."""
    said = rows.counts[arm].double().sum(0)
    return float(said[1] / said[0])


def recall(rows: WithholdingRows, arm: str) -> float:
    """Claims of the written text that are said."""
    said = rows.counts[arm].double().sum(0)
    return float(said[5] / said[4])


def total_fve(rows: WithholdingRows, arm: str) -> float:
    """FVE; an explanation that did not end is read as it stands."""
    return 1 - float(rows.errors[arm].double().sum() / rows.deviation.double().sum())


def save_rows(rows: WithholdingRows, threshold: float, steps: int, warm_start: int, folder: Path = FOLDER) -> None:
    """Store one seed's row scores with how they were made."""
    named = {"document": rows.document.to(torch.int16), "deviation": rows.deviation.half()}
    named |= {f"errors/{arm}": value.half() for arm, value in rows.errors.items()}
    named |= {f"counts/{arm}": value for arm, value in rows.counts.items() if arm in ARMS[:2]}
    made = {"threshold": str(threshold), "steps": str(steps), "warm_start": str(warm_start)}
    write_rows(folder / f"withholding_rows_{rows.seed}.safetensors", named, made)


def load_rows(folder: Path = FOLDER) -> tuple[list[WithholdingRows], dict[str, str]]:
    """Stored row scores of all seeds, and how each was made in words."""
    parts, made = [], {}
    for path in sorted(folder.glob("withholding_rows_*.safetensors")):
        (named, about), seed = read_rows(path), int(path.stem.rsplit("_", 1)[1])
        rows = WithholdingRows(seed, named["document"].long(), named["deviation"].double())
        for name, value in named.items():
            kind, _, arm = name.partition("/")
            if arm:
                getattr(rows, kind)[arm] = value.double()
        parts.append(rows)
        made[f"seed {seed}"] = ", ".join(f"{name} {value}" for name, value in about.items())
    return parts, made


def withholding_rows(parts: Sequence[WithholdingRows]) -> list[Row]:
    """Rows of suite ``faithfulness`` over all stored seeds: FVE, precision and recall of each arm, and differences."""
    if not parts:
        return []
    document = torch.cat([part.document for part in parts])
    seeds = torch.cat([torch.full_like(part.document, part.seed) for part in parts])
    deviation = torch.cat([part.deviation for part in parts])
    errors = {arm: torch.cat([part.errors[arm] for part in parts]) for arm in ARMS}
    counts = {arm: torch.cat([part.counts[arm] for part in parts]) for arm in ARMS[:2]}

    def ratio(top: Tensor, bottom: Tensor) -> Interval:
        return ratio_interval(top, bottom, document, seeds, generator=torch.Generator().manual_seed(0))

    rows = []
    for arm in ARMS:
        found = fve_interval(errors[arm], deviation, document, seeds, generator=torch.Generator().manual_seed(0))
        rows.append(Row.of("explanation", f"fve/stored_{arm}", found))
    for other in ("as_they_were", "as_they_were_trained"):
        gap = ratio(errors[other] - errors["withheld_trained"], deviation)
        rows.append(Row.of("explanation", f"fve/stored_withheld_trained_minus_{other}", gap))
    for arm, own in counts.items():
        said, true, facts, facts_true, expected, found_, facts_expected, facts_found = own.unbind(1)
        for metric, top, bottom in (
            ("claim_precision", true, said), ("claim_precision/facts", facts_true, facts),
            ("claim_recall", found_, expected), ("claim_recall/facts", facts_found, facts_expected),
        ):  # fmt: skip
            name, _, group = metric.partition("/")
            rows.append(Row.of("explanation", f"{name}/{group + '_' if group else ''}stored_{arm}", ratio(top, bottom)))
    return [*rows, _gain(counts, document)]


def frontier(parts: Sequence[WithholdingRows]) -> list[tuple[float, float]]:
    """(FVE, precision) as the pairs were, and withheld with the reconstructor trained on that; means over seeds."""
    if not parts:
        return []
    ends = (("as_they_were", "as_they_were"), ("withheld_trained", "withheld"))
    count = len(parts)
    return [
        (sum(total_fve(part, read) for part in parts) / count, sum(precision(part, said) for part in parts) / count)
        for read, said in ends
    ]


def _gain(counts: Mapping[str, Tensor], document: Tensor) -> Row:
    """By how much withholding raises precision; documents are drawn, seeds are taken as they are."""

    def difference(rows: Tensor) -> float:
        before, after = (counts[arm][rows, :2].sum(0) for arm in ARMS[:2])
        return float(after[1] / after[0] - before[1] / before[0])

    interval = statistic_interval(difference, document, generator=torch.Generator().manual_seed(0))
    return Row.of("explanation", "claim_precision/stored_withheld_minus_as_they_were", interval)
