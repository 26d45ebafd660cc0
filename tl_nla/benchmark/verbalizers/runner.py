"""Runs a benchmark part by part; parts are kept, so that an interrupted run goes on where it was."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.bootstrap import Interval, mean_interval
from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.benchmark.verbalizers.board import Board
from tl_nla.benchmark.verbalizers.codes import CodeCheck, CodeReaders, check_code
from tl_nla.benchmark.verbalizers.config import BenchmarkConfig, Known
from tl_nla.benchmark.verbalizers.headline import Headline, headline
from tl_nla.benchmark.verbalizers.leaks import Leak, leak_tests
from tl_nla.benchmark.verbalizers.readers.base import agreement
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.tasks.choosing import context_choices, continuation_choices
from tl_nla.benchmark.verbalizers.verbalizer import Verbalizer
from tl_nla.benchmark.verbalizers.words import Arm, Words
from tl_nla.data.progress import tell
from tl_nla.errors import InputError
from tl_nla.whole_file import write_json

_ABOUT = "benchmark.json"


@dataclass(frozen=True)
class TaskResult:
    """One task.

    Attributes:
        task: its name.
        asks: what is asked.
        chance: score of a reader that learns nothing.
        scores: by arm, with intervals.
        headlines: of the verbalizer and the cheaters, against the best of all controls.
        beside_vectors: the same against the controls that see no text.
    """

    task: str
    asks: str
    chance: float
    scores: Mapping[str, Interval]
    headlines: Mapping[str, Headline]
    beside_vectors: Mapping[str, Headline]


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes:
        model: the target's name.
        verbalizer: what was benchmarked.
        tasks: the results.
        leaks: of candidates.
        codes: whether words are a private code.
        agreement: of readers, by task and pair.
        skipped: what was left out, and why.
        notes: what else is to be known.
        settings: of the run.
        seconds: how long it took.
        examples: a few words of the verbalizer.
    """

    model: str
    verbalizer: str
    tasks: list[TaskResult]
    leaks: list[Leak]
    codes: list[CodeCheck]
    agreement: dict[str, float]
    skipped: dict[str, str]
    notes: list[str]
    settings: dict[str, Any]
    seconds: float
    examples: list[str]

    @property
    def passed(self) -> list[str]:
        """Tasks whose headline lies above 0 with its whole interval."""
        return [one.task for one in self.tasks if one.headlines["explanation"].passed]

    @property
    def unmasked(self) -> bool:
        """Whether no planted cheater is above the best control in any task."""
        return not any(
            head.passed for one in self.tasks for arm, head in one.headlines.items() if arm.startswith("cheater")
        )


def run_board(
    board: Board, verbalizer: Verbalizer, config: BenchmarkConfig, known: Known, keep: Path | None = None
) -> Outcome:
    """Score every arm in every task, then test for leaks and codes.

    Args:
        board: what :func:`tl_nla.benchmark.verbalizers.board.set_up` made.
        verbalizer: what is benchmarked.
        config: how.
        known: what is known of the texts; its judge is compared with the reader.
        keep: folder of parts.
    """
    started = time.perf_counter()
    results = run_tasks(board.arms, board.words, board.tasks, config, keep)
    rows = board.subject.test.rows
    choices = {
        "which_continuation": continuation_choices(board.subject),
        "which_context": context_choices(board.subject),
    }
    chosen = board.readers.chosen
    leaks = leak_tests(choices, rows.document, chosen, board.subject.tokenizer, config.seed)
    return Outcome(
        board.subject.target.name, verbalizer.name, results, leaks, _codes(board, verbalizer, config),
        _agreement(board, config, known), board.skipped, board.notes,
        {**asdict(config), "layer": board.subject.layer, "rows": len(rows), "documents": len(rows.document.unique())},
        time.perf_counter() - started, board.words(board.words.own, rows)[:3],
    )  # fmt: skip


def check_kept(keep: Path | None, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with the parts of another run.

    Raises:
        InputError: when the folder holds parts of other settings.
    """
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    path, text = keep / _ABOUT, json.dumps(settings, sort_keys=True, default=str)
    mark = hashlib.sha256(text.encode()).hexdigest()
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")).get("mark") != mark:
            raise InputError(f"{keep} holds parts of a run with other settings; give another --keep, or delete it")
    else:
        write_json({"mark": mark, "settings": json.loads(text)}, path)


def run_tasks(
    known: Sequence[Arm], words: Words, tasks: Sequence[Task], config: BenchmarkConfig, keep: Path | None = None
) -> list[TaskResult]:
    """Score every arm in the tasks whose rows it can speak about, and compare with the controls."""
    cells = [(arm, task) for arm in known for task in tasks if arm.covers is None or set(task.rows) <= set(arm.covers)]
    scores: dict[str, dict[str, Tensor]] = {task.name: {} for task in tasks}
    # Arm by arm, since an arm's words cost more than their reading: so the time left is told rightly.
    for number, (arm, task) in enumerate(cells):
        tell("scores of arms in tasks", number, len(cells))
        scores[task.name][arm.name] = score_task(words, task, arm, keep)
    tell("scores of arms in tasks", len(cells), len(cells))
    return [_result(task, [arm for arm in known if arm.name in scores[task.name]], scores[task.name], config)
            for task in tasks]  # fmt: skip


def _result(task: Task, arms: Sequence[Arm], scores: Mapping[str, Tensor], config: BenchmarkConfig) -> TaskResult:
    controls = [arm for arm in arms if arm.role == "control"]
    blind = [arm for arm in controls if arm.sees != "text"]
    judged = [arm for arm in arms if arm.role in ("verbalizer", "cheater")] if task.headline else []

    def against(arm: Arm, others: list[Arm]) -> Headline:
        return headline(
            scores[arm.name], {one.name: scores[one.name] for one in others}, task.document, config.seed,
            config.resamples,
        )  # fmt: skip

    def interval(values: Float[Tensor, " n"]) -> Interval:
        generator = torch.Generator().manual_seed(config.seed)
        return mean_interval(values, task.document, generator=generator, resamples=config.resamples)

    return TaskResult(
        task.name, task.asks, task.chance, {name: interval(values) for name, values in scores.items()},
        {arm.name: against(arm, controls) for arm in judged}, {arm.name: against(arm, blind) for arm in judged},
    )  # fmt: skip


def score_task(words: Words, task: Task, arm: Arm, keep: Path | None = None) -> Float[Tensor, " n"]:
    """One score a row for one arm, kept on the disk where a folder is given."""
    path = None if keep is None else keep / "scores" / f"{task.name}__{arm.name}.safetensors"
    if path is not None:
        kept, _ = read_rows(path)
        if "scores" in kept and len(kept["scores"]) == len(task.document):
            return kept["scores"]
    scores = task.score(words.say(arm)).double()
    if path is not None:
        write_rows(path, {"scores": scores})
    return scores


def _codes(board: Board, verbalizer: Verbalizer, config: BenchmarkConfig) -> list[CodeCheck]:
    """The verbalizer's words, where it has a reconstructor, and the planted letter code."""
    named, plain = {arm.name: arm for arm in board.arms}, board.readers.plain
    calibration, rows = board.subject.calibration.rows, board.subject.test.rows
    gold = board.words(named["gold"], rows)
    own = {"explanation": verbalizer.reconstruct} | (
        {"cheater_letters": board.code.reconstruct} if config.cheaters else {}
    )
    found = []
    for name, reconstruct in own.items():
        if reconstruct is not None:
            arm = named[name]
            chosen = plain.choose(board.words(arm, calibration), calibration.acts)
            reading = CodeReaders(
                reconstruct, chosen, plain.choose(board.words(named["gold"], calibration), calibration.acts)
            )
            found.append(check_code(board.subject, name, board.words(arm, rows), gold, reading, plain))
    return found


def _agreement(board: Board, config: BenchmarkConfig, known: Known) -> dict[str, float]:
    """How often other readers pick the same candidate from the verbalizer's words and from the gold words."""
    others = [one for one in (board.readers.overlap, board.readers.likelihood, known.judge)
              if one is not None and one.name != board.readers.chosen.name]  # fmt: skip
    rows = slice(0, config.agreement_rows)
    named = {arm.name: arm for arm in board.arms}
    found = {}
    for task, choices in (("which_continuation", continuation_choices(board.subject)),
                          ("which_context", context_choices(board.subject))):  # fmt: skip
        for arm in ("explanation", "gold"):
            words, options = board.words(named[arm], board.subject.test.rows)[rows], choices.options[rows]
            first = board.readers.chosen.scores(words, options)
            for other in others:
                found[f"{task}/{arm}/{other.name}"] = agreement(first, other.scores(words, options))
    return found
