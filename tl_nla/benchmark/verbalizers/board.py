"""Everything that a run needs, made once: readers, arms, tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl_nla.benchmark.verbalizers.cheaters import LetterCode, constant_cheater, quoting_cheater
from tl_nla.benchmark.verbalizers.config import BenchmarkConfig, Known
from tl_nla.benchmark.verbalizers.controls.lenses import jacobian_lens_arm, logit_lens_arm
from tl_nla.benchmark.verbalizers.controls.probe import probe_arm
from tl_nla.benchmark.verbalizers.controls.text_only import text_only_arms
from tl_nla.benchmark.verbalizers.controls.untrained import untrained_arm
from tl_nla.benchmark.verbalizers.controls.vectors import vector_arms
from tl_nla.benchmark.verbalizers.readers.base import BlindReader
from tl_nla.benchmark.verbalizers.readers.both import BothReaders
from tl_nla.benchmark.verbalizers.readers.likelihood import LikelihoodReader
from tl_nla.benchmark.verbalizers.readers.overlap import OverlapReader, Rarity
from tl_nla.benchmark.verbalizers.readers.plain import PlainReaders
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.subject import CONTEXT, Subject
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.tasks.choosing import choosing_tasks
from tl_nla.benchmark.verbalizers.tasks.claims import claims_task
from tl_nla.benchmark.verbalizers.tasks.next_token import next_token_task
from tl_nla.benchmark.verbalizers.tasks.planted import planted_task
from tl_nla.benchmark.verbalizers.tasks.reconstruction import reconstruction_tasks
from tl_nla.benchmark.verbalizers.tasks.silence import silence_task
from tl_nla.benchmark.verbalizers.tasks.stability import stability_task
from tl_nla.benchmark.verbalizers.verbalizer import Verbalizer
from tl_nla.benchmark.verbalizers.words import Arm, Words
from tl_nla.data.progress import tell
from tl_nla.errors import InputError

_AHEAD = 8


@dataclass(frozen=True)
class Readers:
    """The blind readers of a run.

    Attributes:
        likelihood: the base language model.
        overlap: counts rare words in common.
        chosen: who picks among candidates.
        plain: turn words into vectors.
        rarity: of words in the training texts.
    """

    likelihood: LikelihoodReader
    overlap: OverlapReader
    chosen: BlindReader
    plain: PlainReaders = field(repr=False)
    rarity: Rarity = field(repr=False)

    @classmethod
    def of(cls, subject: Subject, language_model: Any, config: BenchmarkConfig) -> "Readers":
        """Fit the readers on the training texts."""
        tokenizer = subject.tokenizer
        rarity = Rarity(tokenizer.decode(past + after) for past, after in
                        zip(subject.train.rows.past, subject.train.following, strict=True))  # fmt: skip
        first = subject.test.rows.past[0][:1]
        begin = first if first[0] in tokenizer.all_special_ids else []
        likelihood = LikelihoodReader(language_model, tokenizer, begin, config.words)
        overlap = OverlapReader(tokenizer, rarity)
        named: dict[str, BlindReader] = {"overlap": overlap, "likelihood": likelihood,
                                         "both": BothReaders(overlap, likelihood)}  # fmt: skip
        tell("fitting the plain readers")
        plain = PlainReaders(likelihood, subject.layer, subject.train, tokenizer, rarity, subject.seed)
        return cls(likelihood, overlap, named[config.reader], plain, rarity)


@dataclass(frozen=True)
class Board:
    """A verbalizer beside everything that it is compared with, and what all of them are asked.

    Attributes:
        subject: model and texts.
        readers: who reads the words.
        words: says and keeps them.
        arms: the verbalizer first.
        tasks: what is asked.
        skipped: what was left out, and why.
        notes: what else a reader of the table should know.
        code: the planted letter code.
    """

    subject: Subject
    readers: Readers
    words: Words
    arms: list[Arm]
    tasks: list[Task]
    skipped: dict[str, str]
    notes: list[str]
    code: LetterCode


def own_arm(verbalizer: Verbalizer, seed: int) -> Arm:
    """The verbalizer as an arm; the second words about a vector are sampled where it can be sampled."""

    def say(rows: Rows, lengths: list[int]) -> Sequence[str]:
        if rows.name == "again" and verbalizer.again is not None:
            return verbalizer.again(rows.acts, seed)
        return verbalizer.say(rows.acts)

    return Arm("explanation", say, "verbalizer")


def set_up(
    subject: Subject, verbalizer: Verbalizer, language_model: Any, config: BenchmarkConfig, known: Known,
    keep: Path | None = None,
) -> Board:  # fmt: skip
    """Make readers, arms and tasks.

    Args:
        subject: model and texts.
        verbalizer: what is benchmarked.
        language_model: the target's base as a Hugging Face model, or any other that reads its token ids.
        config: how.
        known: what is known of the texts.
        keep: folder of parts.
    """
    readers = Readers.of(subject, language_model, config)
    words = Words(own_arm(verbalizer, config.seed), subject.tokenizer, config.words, keep)
    code = LetterCode(subject.train.rows.acts, subject.tokenizer)
    arms, skipped = _arms(subject, readers, words, language_model)
    if config.cheaters:
        calibration = subject.calibration.rows
        arms += [quoting_cheater(subject.tokenizer), code.arm, constant_cheater(words, calibration)]
    tasks = [
        *reconstruction_tasks(subject, readers.plain), *choosing_tasks(subject, readers.chosen),
        next_token_task(subject, readers.likelihood), stability_task(subject, readers.rarity), silence_task(subject),
    ]  # fmt: skip
    notes = []
    try:
        both = BothReaders(readers.overlap, readers.likelihood)
        planted, note = planted_task(subject, known.planted, both)
        tasks.append(planted)
        notes.append(note)
    except InputError as error:
        skipped["planted_facts"] = str(error)
    if known.grammar is None:
        skipped["claims"] = "no grammar takes words about these texts apart"
    else:
        tasks.append(claims_task(subject.test, known.grammar))
    return Board(subject, readers, words, arms, tasks, skipped, notes, code)


def _arms(subject: Subject, readers: Readers, words: Words, language_model: Any) -> tuple[list[Arm], dict[str, str]]:
    target, train, tokenizer = subject.target, subject.train, subject.tokenizer
    around = [tokenizer.decode(past[-CONTEXT:] + after[:_AHEAD])
              for past, after in zip(train.rows.past, train.following, strict=True)]  # fmt: skip
    arms = [
        words.own, *text_only_arms(target, language_model, readers.rarity),
        *vector_arms(words, train.rows, subject.seed),
        untrained_arm(language_model, tokenizer, subject.layer, words.budget), logit_lens_arm(target),
    ]  # fmt: skip
    skipped: dict[str, str] = {}
    try:
        arms.append(jacobian_lens_arm(target, subject.layer, [one.text for one in subject.train_documents]))
    except InputError as error:
        skipped["jacobian_lens"] = str(error)
    arms.append(probe_arm(train.rows.acts, around, readers.rarity))
    materials = {one.rows.name: one.gold for one in (subject.test, subject.calibration)} | {"again": subject.test.gold}
    gold = Arm("gold", lambda rows, lengths: materials[rows.name], "reference", "both", tuple(materials))
    return [*arms, gold], skipped
