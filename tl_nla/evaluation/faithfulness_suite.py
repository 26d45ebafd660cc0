"""Suite ``faithfulness``: can the words be believed?

Runs on any NLA with any texts. What needs known truth is measured on the embedded world's stories only; elsewhere
the results say that it was not measured, and why.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tl_nla.cli.options import whole_number
from tl_nla.data import ExplainedStates, explain_states, jsonl_documents, text_file_documents, world_documents
from tl_nla.data.lines import JSON_SUFFIXES
from tl_nla.errors import InputError
from tl_nla.evaluation import faithfulness_rows as measure
from tl_nla.evaluation.faithfulness_seeds import join_rows, load_rows
from tl_nla.evaluation.nla_rows import MAX_NEW_TOKENS, probe_counts
from tl_nla.evaluation.nla_suite import HELD_DOCUMENTS, HELD_POSITIONS, MIN_POSITION
from tl_nla.evaluation.results import Results, Row
from tl_nla.evaluation.withholding_rows import load_rows as load_withholding
from tl_nla.evaluation.withholding_rows import withholding_rows
from tl_nla.faithfulness.abstention import withhold
from tl_nla.faithfulness.claims import Rate
from tl_nla.faithfulness.legibility import token_losses
from tl_nla.faithfulness.scoring import Reconstruct, Scorer, training_mean
from tl_nla.model.text import TextEncoder
from tl_nla.nla import NLA
from tl_nla.storyworld.claims import CLAIM_TYPES
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.tiny import embedded_grounding
from tl_nla.targets import TINY, load_target

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
_TRAINING_SHARE = 10
DEFINITION = {
    "fve": "1 - sum|p-g|^2 / sum|g-m|^2; p, g L2-normalised to sqrt(d_model), m the training set's mean; an "
    "explanation that did not end is read as it stands",
    "claim_precision": "true claims / claims said; an untold claim is not true; told_A-B: facts told A to B words ago; "
    "next_CERTAINTY: first guesses that are the model's best token; certainty_CERTAINTY: its probability deserves the "
    "word; quoted_verbatim: clauses whose quotes stand in the text so far, of those that quote",
    "claim_recall": "claims of the gold text that are said",
    "retention": "FVE of the perturbed words / FVE of the words; of the paraphrase where no perturbation is named",
    "claim_retention": "claims that the perturbed words still make, compared after undoing the paraphrase",
    "deletion_loss": "growth of the error as a share of the variance when one clause is deleted (0.01: a point of FVE)",
    "substitution_loss": "the same when the value of one fact is replaced by a false one",
    "causal_effect": "change in nats of the claimed word's log-probability when the claim's direction (reconstruction "
    "with minus without it, at the norm of the state) is subtracted from the state; on_others: mean change of the "
    "other claims' words; arm random_direction: a random direction of the same norm",
    "order_optimality": "(FVE of the model's order - random) / (greedy - random) after the first clauses",
    "excess_marginal_fve": "FVE that a token of the class adds, above the mean of tokens at its place",
    "cross_reconstructor_gap": "FVE under the own reconstructor minus mean FVE under those given with --reader",
    "fve/withheld_T": "FVE when naming words of probability below T became question words; claim metrics too",
    "judge_agreement/quotes": "share of equal verdicts of the judge of quotes and the world's judge where both decide; "
    "quotes_kappa: Cohen's kappa",
    "legibility": "mean negative log-likelihood of the words under the target model, nats a token",
}  # fmt: skip
NEEDS_TRUTH = "claim_precision, claim_recall, claim_retention, substitution_loss, withholding, arms gold and probe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the suite."""
    parser.add_argument(
        "--nla", nargs=2, metavar=("AV", "AR"), help="folders or hub ids of the pair; default: embedded"
    )
    parser.add_argument(
        "--texts", metavar="FILE", help="text (paragraphs) or JSON lines; default: the embedded world's"
    )
    parser.add_argument("--reader", action="append", default=[], metavar="AR",
                        help="a reconstructor never trained with this verbalizer; may be repeated")  # fmt: skip
    parser.add_argument("--documents", type=whole_number(1), default=HELD_DOCUMENTS, help="texts to read at most")
    parser.add_argument("--max-new-tokens", type=whole_number(1), default=MAX_NEW_TOKENS, help="cap of an explanation")


@dataclass(frozen=True)
class _Subject:
    """What is evaluated: the model with its NLA, the states, and whether their truth is known."""

    model: Any
    tokenizer: Any
    nla: NLA
    states: ExplainedStates
    texts: list[str]
    mean: torch.Tensor
    train: ExplainedStates | None

    @property
    def known(self) -> bool:
        """Whether the truth is known: of stories of the world only, for which there are training states too."""
        return self.train is not None


def evaluate(
    model: str = TINY, nla: list[str] | None = None, texts: str | None = None, reader: list[str] | None = None,
    documents: int = HELD_DOCUMENTS, max_new_tokens: int = MAX_NEW_TOKENS, prepend_bos: bool | None = None,
) -> Results:  # fmt: skip
    """Run the suite; on the embedded pair and stories, with the stored rows of two more seeds.

    Args:
        model: ``"tiny"``, a local folder or a hub id.
        nla: verbalizer and reconstructor of that model; the embedded pair when ``None``.
        texts: file of texts to explain; held-out stories of the embedded world when ``None``.
        reader: reconstructors never trained with the verbalizer, for the cross-reconstructor matrix.
        documents: texts read at most.
        max_new_tokens: cap of an explanation.
        prepend_bos: see :func:`tl_nla.targets.load_target`.

    Raises:
        InputError: when the pair does not fit the model, or another model comes without a pair or texts.
    """
    results = measure_pair(nla, model, texts, reader, documents, max_new_tokens, prepend_bos=prepend_bos)
    shipped = (model, nla, texts, documents, max_new_tokens) == (TINY, None, None, HELD_DOCUMENTS, MAX_NEW_TOKENS)
    if not shipped or reader or prepend_bos is not None:
        return results
    seeds, (parts, made) = load_rows(), load_withholding()
    stored = {
        "stored": f"seeds {sorted(seeds) or 'none'} (python -m lightning_modules.faithfulness_seeds) beside 0, the "
        "shipped pair, scored afresh; a row that one lacks is of seed 0; intervals: documents, seeds by a normal law",
        "stored_withholding": f"rows stored_*: {made} (python -m lightning_modules.withholding)",
    }
    rows = join_rows(results.rows, seeds) + withholding_rows(parts)
    return Results("faithfulness", model, [0, *sorted(seeds)], {**results.definition, **stored}, rows, results.seconds)


def measure_pair(
    nla: list[str] | None = None, model: str = TINY, texts: str | None = None, reader: list[str] | None = None,
    documents: int = HELD_DOCUMENTS, max_new_tokens: int = MAX_NEW_TOKENS, curves: bool = True,
    prepend_bos: bool | None = None,
) -> Results:  # fmt: skip
    """The suite on one pair, without what is stored; arguments as :func:`evaluate`.

    ``curves`` off leaves out the order of clauses and the marginals of tokens, which need dozens of readings a text.
    """
    started = time.perf_counter()
    subject = _subject(model, nla, texts, documents, prepend_bos)
    generation = subject.nla.generate(subject.states.acts, max_new_tokens=max_new_tokens)
    readers = {Path(folder).name or folder: _reader(folder, nla) for folder in reader or []}
    words = _words(subject, "explanation", generation.texts)
    rows = _arm_rows(words, subject, readers, curves)
    if subject.known:
        gold = _words(subject, "gold", list(subject.states.explanations))
        rows += (
            _arm_rows(gold, subject, readers, curves)
            + _withheld_rows(words, subject, generation)
            + _probe_rows(subject)
        )
    definition: dict[str, Any] = {**DEFINITION, "site": subject.nla.site, "intervals": "95%, bootstrap over documents"}
    if not subject.known:
        definition["not_measured"] = f"{NEEDS_TRUTH}: what is true in these texts is not known"
    if not readers:
        definition["no_readers"] = "cross_reconstructor_gap: give reconstructors with --reader AR"
    return Results("faithfulness", model, [0], definition, rows, time.perf_counter() - started)


def _subject(
    model: str, nla: list[str] | None, texts: str | None, count: int, prepend_bos: bool | None = None
) -> _Subject:
    if model != TINY and nla is None:
        raise InputError(f"--model {model!r} needs a pair that was trained on it: give --nla AV AR")
    if model != TINY and texts is None:
        raise InputError(
            f"--model {model!r} needs texts that it knows: give --texts FILE (the stories are of the tiny model)"
        )
    if count < 2:
        raise InputError(f"--documents is {count}; intervals need at least 2")
    from tl_nla.storyworld.tiny import load_tiny

    target = load_target(model, prepend_bos)
    pair = NLA.from_pretrained(nla[0], nla[1]) if nla is not None else load_tiny().nla
    if pair.d_model != target.model.cfg.d_model:
        raise InputError(
            f"the pair reads vectors of size {pair.d_model}, {model!r} has d_model {target.model.cfg.d_model}"
        )
    states, read = _states(target, pair.site, texts, count)
    mean = pair.mean
    train = _training_states(target.model, target.tokenizer, pair.site, count) if texts is None else None
    if mean is None:
        mean = training_mean((states if train is None else train).acts)
    return _Subject(target.model, target.tokenizer, pair, states, read, mean, train)


def _states(target: Any, point: str, texts: str | None, count: int) -> tuple[ExplainedStates, list[str]]:
    """States and, for each, its whole text."""
    if texts is None:
        found, grounding = world_documents(count, HELD_OUT_SEED), embedded_grounding()
        if grounding.site != point:  # written texts then say every fact, whether the state holds it or not
            grounding = None
    else:
        reads = jsonl_documents if Path(texts).suffix in JSON_SUFFIXES else text_file_documents
        found, grounding = reads(texts, limit=count), None
    states = explain_states(
        target.model, target.tokenizer, found, point, HELD_POSITIONS, MIN_POSITION, grounding=grounding
    )
    return states, [found[row].text for row in states.document.tolist()]


def _training_states(model: Any, tokenizer: Any, point: str, held: int) -> ExplainedStates:
    """For probes, and for the mean of a pair that was saved without it."""
    return explain_states(model, tokenizer, world_documents(_TRAINING_SHARE * held, 0), point, HELD_POSITIONS)


def _words(subject: _Subject, arm: str, texts: list[str]) -> measure.Words:
    states = subject.states
    scorer = Scorer(subject.nla.reconstruct, states.acts, subject.mean)
    encode = TextEncoder(subject.tokenizer, subject.model)
    tokens = [encode(text).ids for text in subject.texts]
    known = subject.known
    return measure.Words(
        arm, texts, scorer, states.document, states.position, tokens, states.truths if known else None,
        states.explanations if known else None,
    )  # fmt: skip


def _reader(folder: str, nla: list[str] | None) -> Reconstruct:
    """A reconstructor in the released format; its sidecar is checked against the verbalizer's."""
    from tl_nla.storyworld.tiny import WEIGHTS

    return NLA.from_pretrained(nla[0] if nla else WEIGHTS / "av", folder).reconstruct


def _arm_rows(words: measure.Words, subject: _Subject, readers: dict[str, Reconstruct], curves: bool) -> list[Row]:
    pairs = zip(words.tokens, words.position.tolist(), strict=True)
    so_far = [subject.tokenizer.decode(ids[: position + 1], skip_special_tokens=True) for ids, position in pairs]
    losses = token_losses(subject.model, subject.tokenizer, words.texts)
    return [
        *measure.fve_rows(words), *measure.claim_rows(words), *measure.quote_rows(words, so_far),
        *measure.retention_rows(words), *measure.edit_rows(words),
        *measure.causal_rows(words, subject.model, subject.tokenizer, subject.nla.site),
        *(measure.order_rows(words) if curves else ()),
        *(measure.marginal_rows(words, subject.nla.reconstructor.tokenizer) if curves else ()),
        *measure.cross_rows(words, readers), measure.mean_row(words, "legibility", losses),
    ]  # fmt: skip


def _withheld_rows(words: measure.Words, subject: _Subject, generation: Any) -> list[Row]:
    rows = []
    for threshold in THRESHOLDS:
        texts = withhold(generation, subject.nla.verbalizer.tokenizer, threshold)
        held = measure.Words(
            words.arm, texts, words.scorer, words.document, words.position, words.tokens, words.truths, words.gold
        )
        for row in measure.fve_rows(held) + measure.claim_rows(held):
            metric, _, group = row.metric.partition("/")
            if group in ("", "facts"):
                name = f"{metric}/{group + '_' if group else ''}withheld_{threshold}"
                rows.append(Row(row.arm, name, row.value, row.ci_low, row.ci_high, row.n))
    return rows


def _probe_rows(subject: _Subject) -> list[Row]:
    """The ceiling: what a linear probe finds in the state where the fact is known."""
    if subject.train is None:
        return []
    counts = probe_counts(subject.train, subject.states)
    words = _words(subject, "probe", list(subject.states.explanations))
    rows = []
    for place, kind in enumerate(CLAIM_TYPES):
        asked = torch.nonzero(counts[:, place, 0]).flatten().tolist()
        if asked:
            rate = Rate(asked, [bool(right) for right in counts[asked, place, 1]])
            values = torch.tensor(rate.correct, dtype=torch.float64)
            rows.append(measure.mean_row(words, f"claim_precision/{kind}", values, rate.rows))
    return rows
