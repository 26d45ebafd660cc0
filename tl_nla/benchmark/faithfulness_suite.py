"""Suite ``faithfulness``: can the words be believed?

Runs on any NLA with any texts. What needs known truth is measured where a world gives it (:class:`Subject`); elsewhere
the results say that it was not measured, and why.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tl_nla.benchmark import faithfulness_rows as measure
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.benchmark.results import Results, Row
from tl_nla.data import ExplainedStates, jsonl_documents, text_file_documents
from tl_nla.data.explained import explain_states
from tl_nla.data.lines import JSON_SUFFIXES
from tl_nla.data.progress import in_turn
from tl_nla.errors import InputError
from tl_nla.faithfulness.abstention import withhold
from tl_nla.faithfulness.legibility import token_losses
from tl_nla.faithfulness.scoring import Reconstruct, Scorer, training_mean
from tl_nla.model.placement import Placement
from tl_nla.model.probe import device_of
from tl_nla.model.targets import Target, load_target
from tl_nla.model.text import TextEncoder
from tl_nla.nla import NLA
from tl_nla.plugins import embedded, part

DOCUMENTS, POSITIONS, MIN_POSITION = 150, 6, 5
THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
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


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        target: the model.
        nla: its pair.
        states: states with written explanations and, where they are known, truths.
        texts: the whole text of each state.
        mean: of the normalised training states.
        train: training states for probes; ``None`` where no truth is known.
    """

    target: Target
    nla: NLA
    states: ExplainedStates
    texts: list[str]
    mean: torch.Tensor
    train: ExplainedStates | None = None

    @property
    def known(self) -> bool:
        """Whether the truth is known."""
        return self.train is not None


@dataclass(frozen=True)
class TargetConfig:
    """How the target of a suite is loaded; its pair is on the same device.

    Attributes:
        placement: see :func:`tl_nla.model.targets.load_target`.
        prepend_bos: see :func:`tl_nla.model.targets.load_target`.
    """

    placement: Placement | None = None
    prepend_bos: bool | None = None


def evaluate(
    model: str, nla: Sequence[str] | None = None, texts: str | None = None, reader: Sequence[str] = (),
    documents: int = DOCUMENTS, max_new_tokens: int = MAX_NEW_TOKENS, loaded: TargetConfig | None = None,
) -> Results:  # fmt: skip
    """Run the suite on a pair and texts whose truth is not known.

    Args:
        model: an embedded model's name, a local folder or a hub id.
        nla: verbalizer and reconstructor of that model; the embedded pair when ``None``.
        texts: file of texts to explain.
        reader: reconstructors never trained with the verbalizer, for the cross-reconstructor matrix.
        documents: texts read at most.
        max_new_tokens: cap of an explanation.
        loaded: how the model is loaded.

    Raises:
        InputError: when pair or texts are missing, or the pair does not fit the model.
    """
    target, pair = load_subject_pair(model, nla, documents, loaded)
    if texts is None:
        raise InputError(f"--model {model!r} needs texts that it knows: give --texts FILE")
    reads = jsonl_documents if Path(texts).suffix in JSON_SUFFIXES else text_file_documents
    found = reads(texts, limit=documents)
    states = explain_states(target.model, target.tokenizer, found, pair.site, POSITIONS, MIN_POSITION)
    mean = pair.mean if pair.mean is not None else training_mean(states.acts)
    subject = Subject(target, pair, states, [found[row].text for row in states.document.tolist()], mean)
    return measure_subject(subject, readers_of(reader, model, nla, pair.verbalizer.device), max_new_tokens)


def load_subject_pair(
    model: str, nla: Sequence[str] | None, count: int, loaded: TargetConfig | None = None
) -> tuple[Target, NLA]:
    """The target and its pair, on one device.

    Raises:
        InputError: when there is none, it does not fit, or there are too few texts.
    """
    if embedded(model) is None and nla is None:
        raise InputError(f"--model {model!r} needs a pair that was trained on it: give --nla AV AR")
    if count < 2:
        raise InputError(f"--documents is {count}; intervals need at least 2")
    loaded = loaded or TargetConfig()
    target = load_target(model, loaded.prepend_bos, loaded.placement)
    av, ar = nla if nla is not None else (part(model, "av"), part(model, "ar"))
    pair = NLA.from_pretrained(av, ar, device=str(device_of(target.model)))
    if pair.d_model != target.model.cfg.d_model:
        raise InputError(
            f"the pair reads vectors of size {pair.d_model}, {model!r} has d_model {target.model.cfg.d_model}"
        )
    return target, pair


def readers_of(
    folders: Sequence[str], model: str, nla: Sequence[str] | None, device: torch.device | str = "cpu"
) -> dict[str, Reconstruct]:
    """Reconstructors in the released format by name; their sidecars are checked against the verbalizer's."""
    av = nla[0] if nla else part(model, "av") if folders else ""
    return {
        Path(folder).name or folder: NLA.from_pretrained(av, folder, device=str(device)).reconstruct
        for folder in folders
    }


def measure_subject(
    subject: Subject, readers: dict[str, Reconstruct], max_new_tokens: int = MAX_NEW_TOKENS, curves: bool = True
) -> Results:
    """Every measure on one pair's words, and on the written explanations where truth is known.

    Args:
        subject: what is evaluated.
        readers: by name, for the cross-reconstructor matrix.
        max_new_tokens: cap of an explanation.
        curves: off leaves out the order of clauses and the marginals of tokens, which need dozens of readings a text.
    """
    started = time.perf_counter()
    generation = subject.nla.generate(subject.states.acts, max_new_tokens=max_new_tokens)
    words = words_of(subject, "explanation", generation.texts)
    rows = _arm_rows(words, subject, readers, curves)
    if subject.known:
        gold = words_of(subject, "gold", list(subject.states.explanations))
        rows += _arm_rows(gold, subject, readers, curves) + _withheld_rows(words, subject, generation)
    definition: dict[str, Any] = {**DEFINITION, "site": subject.nla.site, "intervals": "95%, bootstrap over documents"}
    if not subject.known:
        definition["not_measured"] = f"{NEEDS_TRUTH}: what is true in these texts is not known"
    if not readers:
        definition["no_readers"] = "cross_reconstructor_gap: give reconstructors with --reader AR"
    return Results("faithfulness", subject.target.name, [0], definition, rows, time.perf_counter() - started)


def words_of(subject: Subject, arm: str, texts: list[str]) -> measure.Words:
    """One arm's words, ready to be measured."""
    states = subject.states
    scorer = Scorer(subject.nla.reconstruct, states.acts, subject.mean)
    encode = TextEncoder(subject.target.tokenizer, subject.target.model)
    tokens = [encode(text).ids for text in subject.texts]
    known = subject.known
    return measure.Words(
        arm, texts, scorer, states.document, states.position, tokens, states.truths if known else None,
        states.explanations if known else None,
    )  # fmt: skip


def _arm_rows(words: measure.Words, subject: Subject, readers: dict[str, Reconstruct], curves: bool) -> list[Row]:
    model, tokenizer = subject.target.model, subject.target.tokenizer
    pairs = zip(words.tokens, words.position.tolist(), strict=True)
    so_far = [tokenizer.decode(ids[: position + 1], skip_special_tokens=True) for ids, position in pairs]

    def legibility() -> Row:
        return measure.mean_row(words, "legibility", token_losses(model, tokenizer, words.texts))

    measures: list[Callable[[], list[Row]]] = [
        partial(measure.fve_rows, words), partial(measure.claim_rows, words),
        partial(measure.quote_rows, words, so_far), partial(measure.retention_rows, words),
        partial(measure.edit_rows, words),
        partial(measure.causal_rows, words, model, tokenizer, subject.nla.site),
    ]  # fmt: skip
    if curves:
        measures += [partial(measure.order_rows, words),
                     partial(measure.marginal_rows, words, subject.nla.reconstructor.tokenizer)]  # fmt: skip
    measures += [partial(measure.cross_rows, words, readers), lambda: [legibility()]]
    return [row for rows in in_turn(measures, f"measures of the {words.arm}") for row in rows]


def _withheld_rows(words: measure.Words, subject: Subject, generation: Any) -> list[Row]:
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
