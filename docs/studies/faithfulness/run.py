"""Study ``faithfulness``: can the words be believed? On stories, whose truth is known."""

import argparse
from collections.abc import Sequence

import torch

from docs.studies.faithfulness.withholding_rows import load_rows as load_withholding
from docs.studies.faithfulness.withholding_rows import withholding_rows
from docs.studies.nla.score import probe_counts
from tl_nla.benchmark import faithfulness_rows as measure
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.benchmark.faithfulness_suite import (
    DOCUMENTS,
    MIN_POSITION,
    POSITIONS,
    Subject,
    load_subject_pair,
    measure_subject,
    readers_of,
    words_of,
)
from tl_nla.benchmark.results import Results, Row
from tl_nla.faithfulness.claims import Rate
from tl_nla.faithfulness.scoring import training_mean
from tl_nla.storyworld.claims import CLAIM_TYPES
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explained import WorldCapture, explain_states
from tl_nla.storyworld.tiny import embedded_grounding

_TRAINING_SHARE = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the study."""
    parser.add_argument("--nla", nargs=2, metavar=("AV", "AR"), help="another pair of the embedded model")
    parser.add_argument("--reader", action="append", default=[], metavar="AR",
                        help="a reconstructor never trained with this verbalizer; may be repeated")  # fmt: skip
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="held-out stories")
    parser.add_argument("--max-new-tokens", type=int, default=MAX_NEW_TOKENS, help="cap of an explanation")


def evaluate(
    nla: Sequence[str] | None = None, reader: Sequence[str] = (), documents: int = DOCUMENTS,
    max_new_tokens: int = MAX_NEW_TOKENS, curves: bool = True,
) -> Results:  # fmt: skip
    """Run every measure on a pair of the embedded model, with the stored rows of withholding for the shipped one.

    Args:
        nla: verbalizer and reconstructor; the embedded pair when ``None``.
        reader: reconstructors never trained with the verbalizer.
        documents: held-out stories.
        max_new_tokens: cap of an explanation.
        curves: see :func:`tl_nla.benchmark.faithfulness_suite.measure_subject`.
    """
    subject = stories(nla, documents)
    results = measure_subject(subject, readers_of(reader, "tiny", nla), max_new_tokens, curves)
    rows, definition = [*results.rows, *probe_rows(subject)], results.definition
    shipped = (nla, documents, max_new_tokens) == (None, DOCUMENTS, MAX_NEW_TOKENS) and not reader
    if shipped:
        parts, made = load_withholding()
        rows += withholding_rows(parts)
        made_by = "python -m docs.studies.faithfulness.withholding"
        definition = {**definition, "stored_withholding": f"rows stored_*: {made} ({made_by})"}
    return Results("faithfulness", "tiny", [0], definition, rows, results.seconds)


def stories(nla: Sequence[str] | None, documents: int) -> Subject:
    """A pair of the embedded model on held-out stories."""
    target, pair = load_subject_pair("tiny", nla, documents)
    found, grounding = world_documents(documents, HELD_OUT_SEED), embedded_grounding()
    states = explain_states(
        target.model, target.tokenizer, found, pair.site, POSITIONS, MIN_POSITION,
        # Without a grounding of this site every fact is said, held or not.
        WorldCapture(grounding=grounding if grounding.site == pair.site else None),
    )  # fmt: skip
    training = world_documents(_TRAINING_SHARE * documents, 0)
    train = explain_states(target.model, target.tokenizer, training, pair.site, POSITIONS)
    mean = pair.mean if pair.mean is not None else training_mean(train.acts)
    return Subject(target, pair, states, [found[row].text for row in states.document.tolist()], mean, train)


def probe_rows(subject: Subject) -> list[Row]:
    """The ceiling: what a linear probe finds in the state where the fact is known."""
    if subject.train is None:
        return []
    counts = probe_counts(subject.train, subject.states)
    words = words_of(subject, "probe", list(subject.states.explanations))
    rows = []
    for place, kind in enumerate(CLAIM_TYPES):
        asked = torch.nonzero(counts[:, place, 0]).flatten().tolist()
        if asked:
            rate = Rate(asked, [bool(right) for right in counts[asked, place, 1]])
            values = torch.tensor(rate.correct, dtype=torch.float64)
            rows.append(measure.mean_row(words, f"claim_precision/{kind}", values, rate.rows))
    return rows
