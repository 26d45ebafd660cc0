"""An oracle of writes beside its controls."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tl_nla.benchmark.verbalizers.cheaters import LetterCode, constant_cheater, quoting_cheater
from tl_nla.benchmark.verbalizers.codes import CodeReaders, check_write_code
from tl_nla.benchmark.verbalizers.config import BenchmarkConfig
from tl_nla.benchmark.verbalizers.controls.lenses import logit_lens_arm
from tl_nla.benchmark.verbalizers.controls.probe import probe_arm
from tl_nla.benchmark.verbalizers.controls.text_only import text_only_arms
from tl_nla.benchmark.verbalizers.controls.vectors import vector_arms
from tl_nla.benchmark.verbalizers.readers.likelihood import LikelihoodReader
from tl_nla.benchmark.verbalizers.readers.overlap import Rarity
from tl_nla.benchmark.verbalizers.readers.writes import PlainWriteReaders
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.runner import Outcome, run_tasks
from tl_nla.benchmark.verbalizers.tasks.write_reading import reading_tasks, write_leaks
from tl_nla.benchmark.verbalizers.tasks.writes import promoted_task, skip_task, which_write_task
from tl_nla.benchmark.verbalizers.words import Arm, Words
from tl_nla.benchmark.verbalizers.writes import WriteSubject
from tl_nla.data.progress import tell
from tl_nla.errors import InputError
from tl_nla.oracle import DiffOracle

_CAP = 64


def run_writes(
    subject: WriteSubject, oracle: Any, language_model: Any, config: BenchmarkConfig, keep: Path | None = None
) -> Outcome:
    """Benchmark what an oracle says about writes."""
    started, tokenizer = time.perf_counter(), subject.target.tokenizer
    own = Arm("explanation", _sayer(oracle), "verbalizer", "both")
    words = Words(own, tokenizer, config.words, keep)
    rarity = Rarity(subject.train.gold)
    arms = _arms(subject, words, language_model, rarity)
    if config.cheaters:
        code = LetterCode(subject.train.rows.acts, tokenizer)
        arms += [quoting_cheater(tokenizer), code.arm, constant_cheater(words, subject.calibration.rows)]
    tell("fitting the readers of writes")
    plain = PlainWriteReaders(subject, LikelihoodReader(language_model, tokenizer, cap=config.words))
    tasks = [
        which_write_task(subject, rarity), promoted_task(subject), skip_task(subject), *reading_tasks(subject, plain)
    ]  # fmt: skip
    results = run_tasks(arms, words, tasks, config, keep)
    settings = {**asdict(config), "rows": len(subject.test), "documents": len(subject.test.rows.document.unique())}
    skipped = {"jacobian_lens": "writes are told by their direct effect, which is the logit lens"}
    gold, codes = next(arm for arm in arms if arm.name == "gold"), []
    if isinstance(oracle, DiffOracle):
        few = subject.calibration.rows
        readers = CodeReaders(
            oracle.reconstruct, plain.choose(words(own, few), few), plain.choose(words(gold, few), few)
        )
        codes.append(check_write_code(subject, words(own, subject.test.rows), readers, plain, own.name))
    return Outcome(
        subject.target.name, "oracle", results, write_leaks(subject, plain), codes, {}, skipped, [], settings,
        time.perf_counter() - started, words(own, subject.test.rows)[:3],
    )  # fmt: skip


def _sayer(oracle: Any) -> Any:
    explain = oracle.explain if isinstance(oracle, DiffOracle) else oracle

    def say(rows: Rows, lengths: list[int]) -> Sequence[str]:
        if rows.before is None:
            raise InputError(f"{rows.name!r} are states; an oracle of writes needs the states before them, too")
        return list(explain(rows.acts, rows.before))

    return say


def _arms(subject: WriteSubject, words: Words, language_model: Any, rarity: Rarity) -> list[Arm]:
    target = subject.target

    def untrained(rows: Rows, lengths: list[int]) -> Sequence[str]:
        before = torch.zeros_like(rows.acts) if rows.before is None else rows.before
        fresh = DiffOracle.create(language_model, target.tokenizer, d_act=rows.acts.shape[1]).eval()
        return fresh.explain(rows.acts, before, max_new_tokens=min(_CAP, max(1, *lengths)))

    materials = {one.rows.name: one.gold for one in (subject.calibration, subject.test)}
    return [
        words.own, *text_only_arms(target, language_model, rarity),
        *vector_arms(words, subject.train.rows, subject.seed),
        Arm("untrained", untrained, sees="both"), logit_lens_arm(target),
        probe_arm(subject.train.rows.acts, subject.train.gold, rarity),
        Arm("gold", lambda rows, lengths: materials[rows.name], "reference", "both", tuple(materials)),
    ]  # fmt: skip
