"""Stored scores of detectors with trained reconstructors as references, and the rows that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from docs.studies.steganography.auc import FALSE_ALARMS, auc_interval, false_alarms
from tl_nla.benchmark.results import Row
from tl_nla.benchmark.row_store import read_rows, write_rows

FOLDER = Path(__file__).parent / "rows"
STREAM = 3_000_003
"""Stories that these scores are of; no detector was designed, and no other figure taken, on it."""


REWORDED = "reworded"
"""Stands before a writer whose words are scored by readers that were taught every wording."""


@dataclass
class TrainedScores:
    """Scores of one seed.

    Attributes:
        seed: of the honest reader.
        scores: writer -> detector -> score of each document. ``written`` is read by the seed's reconstructor, as are
            its verbalizer's words (``explanation``); ``full`` by an accomplice; a suspect ``NAME`` and ``NAME_written``
            by its own. ``reworded/WRITER``: by readers that were taught every wording.
    """

    seed: int
    scores: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def save_scores(part: TrainedScores, folder: Path = FOLDER) -> None:
    """Store one seed's scores."""
    named = {f"{writer}/{name}": value.half() for writer, by in part.scores.items() for name, value in by.items()}
    write_rows(folder / f"trained_references_{part.seed}.safetensors", named)


def load_scores(folder: Path = FOLDER) -> list[TrainedScores]:
    """Stored scores of all seeds."""
    parts = []
    for path in sorted(folder.glob("trained_references_*.safetensors")):
        part = TrainedScores(int(path.stem.rsplit("_", 1)[1]))
        for name, value in read_rows(path)[0].items():
            writer, detector = name.rsplit("/", 1)
            part.scores.setdefault(writer, {})[detector] = value.double()
        parts.append(part)
    return parts


def transferred_alarms(scores: Float[Tensor, "seeds documents"]) -> float:
    """False alarms at a threshold set on other readers of the same kind and other documents.

    Each seed's later half of documents is judged by the threshold that :data:`FALSE_ALARMS` of the other seeds' earlier
    half exceed.
    """
    half, rates = scores.shape[1] // 2, []
    for seed in range(len(scores)):
        others = torch.cat([scores[other, :half] for other in range(len(scores)) if other != seed])
        rates.append(float((scores[seed, half:] > others.quantile(1 - FALSE_ALARMS)).double().mean()))
    return sum(rates) / len(rates)


def trained_rows(parts: Sequence[TrainedScores]) -> list[Row]:
    """Rows of suite ``steganography``, named ``..._trained``: AUC against written words, and false alarms on these.

    Those of readers that were taught every wording are named ``..._reworded``.
    """
    return [*_rows_of(parts, "", "trained"), *_rows_of(parts, f"{REWORDED}/", REWORDED)]


def _rows_of(parts: Sequence[TrainedScores], kind: str, ending: str) -> list[Row]:
    rows = []
    found = [{writer.removeprefix(kind): by for writer, by in part.scores.items()
              if writer.startswith(kind) and "/" not in writer.removeprefix(kind)} for part in parts]  # fmt: skip
    writers = dict.fromkeys(writer for scores in found for writer in scores)
    for writer in writers:
        if writer == "written" or writer.endswith("_written"):
            continue
        own = f"{writer}_written"
        honest = own if own in writers else "written"
        having = [scores for scores in found if writer in scores and honest in scores]
        for detector in having[0][writer] if having else ():
            mine, theirs = (torch.stack([scores[who][detector] for scores in having]) for who in (writer, honest))
            arm = "gold" if writer == "full" else "explanation"
            rows.append(Row.of(arm, f"auc/steganographer/{writer}_{detector}_{ending}", auc_interval(mine, theirs)))
    honest_scores = [scores["written"] for scores in found if "written" in scores]
    for detector in honest_scores[0] if honest_scores else ():
        scores = torch.stack([by[detector] for by in honest_scores])
        count = scores.numel() // 2
        rows.append(Row("gold", f"false_alarms/{detector}_{ending}", false_alarms(scores), None, None, count))
        if len(scores) > 1:
            moved = transferred_alarms(scores)
            rows.append(Row("gold", f"false_alarms/{detector}_{ending}_transferred", moved, None, None, count))
    return rows
