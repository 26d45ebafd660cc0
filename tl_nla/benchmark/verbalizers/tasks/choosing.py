"""Which continuation, and which context: the reader picks one of ten pieces of text by the words alone."""

from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.candidates import OPTIONS, Choices, matched_choices, nearest_choices
from tl_nla.benchmark.verbalizers.readers.base import BlindReader, picked
from tl_nla.benchmark.verbalizers.subject import CONTEXT, Subject
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say


def continuation_choices(subject: Subject) -> Choices:
    """Ten candidates for the next tokens."""
    return _matched(subject, subject.test.following)


def context_choices(subject: Subject) -> Choices:
    """Ten candidates for the last tokens of the text."""
    return _matched(subject, [past[-CONTEXT:] for past in subject.test.rows.past])


def choosing_tasks(subject: Subject, reader: BlindReader) -> list[Task]:
    """Which continuation, which context, and which of the contexts whose vectors are nearest."""
    rows = subject.test.rows
    pieces = [past[-CONTEXT:] for past in rows.past]
    near = nearest_choices(pieces, rows.acts, rows.document, subject.seed)
    return [
        choice_task(
            "which_continuation", "Which of ten texts of 32 tokens comes next?", subject,
            continuation_choices(subject), reader,
        ),
        choice_task(
            "which_context", "Which of ten texts of 16 tokens was read last?", subject, context_choices(subject), reader
        ),
        choice_task(
            "discrimination", "Which of the ten contexts with the nearest vectors was it?", subject, near, reader
        ),
    ]  # fmt: skip


def choice_task(name: str, asks: str, subject: Subject, choices: Choices, reader: BlindReader) -> Task:
    """A task of one choice a row, scored by the share of the first place that the right candidate has."""

    def score(say: Say) -> Float[Tensor, " n"]:
        return picked(reader.scores(say(subject.test.rows), choices.options), choices.right)

    return Task(name, asks, score, subject.test.rows.document, 1 / OPTIONS)


def _matched(subject: Subject, pieces: list[list[int]]) -> Choices:
    topics = [subject.tokenizer.decode(past) for past in subject.test.rows.past]
    return matched_choices(pieces, topics, subject.test.rows.document, subject.tokenizer, subject.seed)
