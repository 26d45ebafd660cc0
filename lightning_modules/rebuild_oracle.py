"""Trains a diff oracle on any target with the readers of all arms it is compared with, and scores them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lightning_modules.diff import WriteTexts, all_sites, held_out_heads
from lightning_modules.fit_oracle import Curve, FitConfig, fit_reader, fit_reconstructor
from lightning_modules.precision import known_precision
from tl_nla.data import Document, world_documents
from tl_nla.evaluation.oracle_rows import KINDS, OracleRows, load_rows, save_rows
from tl_nla.evaluation.oracle_score import (
    MAX_NEW_TOKENS,
    component_means,
    distant_words,
    frequent_sources,
    score_answers,
    score_flip_probe,
    score_long_context,
    score_readers,
    score_state_probe,
    score_sum_of_heads,
    score_words,
    start_rows,
)
from tl_nla.evaluation.oracle_texts import arm_texts, long_context_texts, readable, shuffled_rows, state_texts
from tl_nla.evaluation.source_probe import score_source_probe
from tl_nla.metrics import squared_errors
from tl_nla.nla.loading import load_causal_lm, load_tokenizer
from tl_nla.oracle import CaptureConfig, DiffOracle, LabelledWrites, WriteReconstructor, capture_writes
from tl_nla.oracle.labels import Lens, Vocabulary, expected_vocabulary
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.targets import Target

STORED_ROWS = "oracle_rows.safetensors"
_CURVE_ROWS = 1500
_OWN_RATE = 0.5
"""Share of the learning rate for the second training: the reconstructor already reads labels."""


@dataclass(frozen=True)
class OracleConfig:
    """What an oracle is trained on and for how long; the defaults are those of the embedded one.

    Attributes:
        documents: training documents.
        skip_documents: how many of them (the last) also have the ``skip`` question labelled.
        held_documents: held-out documents.
        positions: positions of each training document.
        held_positions: positions of each held-out document.
        top_k: words named on each side.
        blocks: how many blocks the reconstructors keep.
        reader_steps: steps of the reader.
        steps: steps of the reconstructor on labels.
        questions: questions a training write, beside its explanation.
        batch_size: rows a step.
        learning_rate: of Muon in all trainings; the step on the oracle's own words has half of it.
        precision: of the matrix products of all trainings (:mod:`lightning_modules.precision`).
        heldout_heads: share of heads that nothing is trained on.
        own_words: training writes that the reader explains, for the reconstructor to learn its words.
        own_steps: steps of the reconstructor on these and on as many labels; every arm's own reader has as many more.
        arms: arms with a reader of their own that are trained beside the reconstructor.
        long_steps: steps of the reader of ``cat_long``, which sees attentions only; 0 for none.
    """

    documents: int = 1800
    skip_documents: int = 250
    held_documents: int = 150
    positions: int = 2
    held_positions: int = 1
    top_k: int = 8
    blocks: int = 2
    reader_steps: int = 5000
    steps: int = 3500
    questions: int = 2
    batch_size: int = 32
    learning_rate: float = 0.02
    precision: str = "highest"
    heldout_heads: float = 0.0
    own_words: int = 12_000
    own_steps: int = 700
    arms: tuple[str, ...] = ("cat", "cat_and_explanation", "state")
    long_steps: int = 1000

    def __post_init__(self) -> None:
        known_precision(self.precision)


SMALL = OracleConfig(
    documents=300, skip_documents=60, held_documents=30, held_positions=3, top_k=4, reader_steps=300, steps=200,
    heldout_heads=0.25, own_words=600, own_steps=50, long_steps=50,
)  # fmt: skip
"""A few minutes on one core for a small model: shows that everything runs, not how good it can get."""

QUICK = OracleConfig(
    documents=12, skip_documents=6, held_documents=6, positions=1, held_positions=2, top_k=4, blocks=1, reader_steps=2,
    steps=2, batch_size=4, heldout_heads=0.25, own_words=8, own_steps=2, long_steps=2,
)  # fmt: skip
"""A test of the path."""


@dataclass(frozen=True)
class Captured:
    """Labelled writes of both splits, and the texts they are from."""

    train: LabelledWrites
    held: LabelledWrites
    untrained: tuple[str, ...]
    train_documents: Sequence[Document]
    held_documents: Sequence[Document]
    reference: Any
    vocabulary: Vocabulary


def capture(
    target: Target, train: Sequence[Document], held: Sequence[Document], config: OracleConfig, seed: int
) -> Captured:
    """Label the writes of all heads, attentions, MLPs, blocks and spans.

    Args:
        target: the model.
        train: training documents.
        held: held-out documents.
        config: sizes.
        seed: of positions and of the heads left out.
    """
    sites = oracle_sites(target.model)
    untrained = held_out_heads(sites, config.heldout_heads, seed)
    kept = [site for site in sites if site not in untrained]
    settings = CaptureConfig(config.positions, config.top_k, skips=False, seed=seed)
    cut = len(train) - config.skip_documents
    named = expected_vocabulary(target.model, target.tokenizer, train)
    parts = [capture_writes(target.model, target.tokenizer, chosen, kept, replace(settings, skips=skips), named)
             for chosen, skips in ((train[:cut], False), (train[cut:], True)) if chosen]  # fmt: skip
    writes = LabelledWrites.join(parts)
    reference = writes.reference()
    settings = replace(settings, positions_per_document=config.held_positions, skips=True)
    told = capture_writes(target.model, target.tokenizer, held, sites, settings, named).with_strength(reference)
    return Captured(writes.with_strength(reference), told, untrained, train, held, reference, named)


def oracle_sites(model: Any) -> list[str]:
    """All heads, MLPs, attentions and blocks, and the spans between at most five blocks."""
    sites = all_sites(model, ("heads", "mlp", "attn", "blocks"))
    last = int(model.cfg.n_layers) - 1
    ends = sorted({round(last * place / 4) for place in range(5)}) if last > 3 else list(range(last + 1))
    return sites + [f"blocks.{i}.hook_resid_pre -> blocks.{j}.hook_resid_post" for i in ends for j in ends if i < j]


def train_oracle(
    folder: Path, data: Captured, config: OracleConfig, seed: int, base: str = ""
) -> tuple[DiffOracle, Curve]:
    """Train reader and reconstructor; also gives the reconstructor's learning curve."""
    torch.manual_seed(seed)
    oracle = fresh_oracle(folder, data, config, base)
    items = WriteTexts(data.train, 0.15, seed, 0.6, 0.05, config.questions)
    fit_reader(oracle.reader, items, _fit_config(config, config.reader_steps, seed))
    curve = train_arm("gold", oracle.reconstructor, data, config, seed, oracle.reader.tokenizer, None)
    read_own_words(oracle, data, config, seed)
    return oracle.eval(), curve


def read_own_words(oracle: DiffOracle, data: Captured, config: OracleConfig, seed: int) -> None:
    """Train the reconstructor on, half on the reader's own greedy words about training writes, half on labels."""
    if not config.own_words or not config.own_steps:
        return
    drawn = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    rows = drawn[: 2 * config.own_words]
    writes, cut = data.train.select(rows), (len(rows) + 1) // 2
    said = oracle.explain(writes.write[:cut], writes.before[:cut], max_new_tokens=MAX_NEW_TOKENS)
    texts = readable(oracle.reconstructor, [*said, *(writes.text(row) for row in range(cut, len(rows)))])
    fit = _fit_config(config, config.own_steps, seed + 1, _OWN_RATE)
    fit_reconstructor(oracle.reconstructor, texts, writes.write, fit)


def _fit_config(config: OracleConfig, steps: int, seed: int, share: float = 1.0) -> FitConfig:
    rate = share * config.learning_rate
    return FitConfig(steps, config.batch_size, rate, seed, precision=config.precision)


def fresh_oracle(folder: Path, data: Captured, config: OracleConfig, base: str = "") -> DiffOracle:
    """An untrained oracle that knows the usual magnitudes."""
    model, tokenizer = load_causal_lm(folder, torch.float32), load_tokenizer(folder)
    blocks = min(config.blocks, int(model.config.num_hidden_layers))
    oracle = DiffOracle.create(model, tokenizer, data.train.write.shape[1], blocks=blocks, base=base)
    oracle.fit(data.train.before, data.train.write)
    oracle.strength = data.reference
    return oracle


def train_arm(
    arm: str, reconstructor: WriteReconstructor, data: Captured, config: OracleConfig, seed: int, tokenizer: Any,
    model: Any,
) -> Curve:  # fmt: skip
    """Train the reader of one arm on its own texts, in the same order and for as long as every other arm's."""
    texts, held = (texts_of(arm, data, split, tokenizer, model, seed, config.top_k) for split in ("train", "heldout"))
    texts, held = readable(reconstructor, texts), readable(reconstructor, held)
    score = curve_scorer(reconstructor, held, data)
    steps = config.steps if arm == "gold" else config.steps + config.own_steps
    fit = _fit_config(config, steps, seed)
    return fit_reconstructor(reconstructor, texts, data.train.write, fit, score)


def train_long_context(folder: Path, data: Captured, config: OracleConfig, seed: int, tokenizer: Any) -> Any:
    """A reader of raw context as long as the label texts of an attention's heads together; ``None`` for no steps."""
    said = [data.train.text(row) for row in range(len(data.train))]
    texts = long_context_texts(data.train, said, tokenizer, data.train_documents) if config.long_steps else {}
    if not texts:
        return None
    torch.manual_seed(seed)
    reader = fresh_oracle(folder, data, config).reconstructor
    fit = _fit_config(config, config.long_steps, seed)
    write = data.train.write[torch.tensor(list(texts))]
    fit_reconstructor(reader, readable(reader, list(texts.values())), write, fit)
    return reader


def texts_of(
    arm: str, data: Captured, split: str, tokenizer: Any, model: Any, seed: int, top_k: int,
    explanations: Sequence[str] | None = None,
) -> list[str]:  # fmt: skip
    """Texts of an arm on one split; the states' own effects where the arm is ``state``."""
    training = split == "train"
    writes = data.train if training else data.held
    documents = data.train_documents if training else data.held_documents
    states = state_texts(writes, Lens.of(model), data.vocabulary, top_k) if arm == "state" else None
    return arm_texts(arm, writes, tokenizer, documents, seed, training, explanations, states)


def curve_scorer(reconstructor: WriteReconstructor, texts: Sequence[str], data: Captured) -> Callable[[], list[float]]:
    """FVE of each of ``KINDS`` on some held-out writes of trained components."""
    held = data.held
    rows = torch.randperm(len(held), generator=torch.Generator().manual_seed(5))[:_CURVE_ROWS]
    means = component_means(data.train, held.sites)
    known = start_rows(held.select(rows), means, data.untrained, 0)

    def score() -> list[float]:
        errors = squared_errors(reconstructor.reconstruct([texts[row] for row in rows.tolist()]), held.write[rows])
        parts = [known.rows_of(kind) for kind in KINDS]
        return [
            float(1 - errors[part].sum() / known.deviation[part].sum()) if len(part) else float("nan") for part in parts
        ]

    return score


def score_oracle(
    oracle: DiffOracle, readers: dict[str, WriteReconstructor], curves: dict[str, Curve], data: Captured,
    target: Target, config: OracleConfig, seed: int, long_context: Any = None,
) -> OracleRows:  # fmt: skip
    """Row scores of all arms and questions on the held-out writes."""
    held = data.held
    rows = start_rows(held, component_means(data.train, held.sites), data.untrained, seed)
    explanations = score_words(rows, oracle, held)
    score_sum_of_heads(rows, oracle, held, explanations)
    settings = target.tokenizer, target.model, seed, config.top_k
    given = {arm: explanations if arm.startswith("cat_and") else None for arm in readers}
    texts = {arm: texts_of(arm, data, "heldout", *settings, explanations=given[arm]) for arm in readers}
    if "cat" in readers:
        lengths = explanations  # raw context as long as the words it stands beside
        texts["cat"] = texts_of("cat", data, "heldout", *settings, explanations=lengths)
    score_readers(rows, readers, texts, held)
    if "cat_and_explanation" in readers:
        other = [explanations[row] for row in shuffled_rows(held, seed).tolist()]
        mixed = texts_of("cat_and_explanation", data, "heldout", *settings, explanations=other)
        score_readers(rows, {"cat_and_shuffled": readers["cat_and_explanation"]}, {"cat_and_shuffled": mixed}, held)
    if long_context is not None:
        longer = long_context_texts(held, explanations, target.tokenizer, data.held_documents)
        score_long_context(rows, long_context, longer, held)
    score_state_probe(rows, data.train, held)
    score_answers(rows, oracle, held, explanations, frequent_sources(data.train), previous_words(target, data))
    score_flip_probe(rows, data.train, held)
    score_source_probe(rows, data.train, held)
    for arm, curve in curves.items():
        rows.curves[arm] = torch.tensor(
            [[step, *scores] for step, scores in zip(curve.steps, curve.scores, strict=True)]
        )
    return rows


def previous_words(target: Target, data: Captured) -> list[list[str]]:
    """For each held-out row the words nearest to it among those too far back to be local."""
    bos = target.tokenizer.bos_token_id
    ids = [([] if bos is None else [bos]) + target.tokenizer.encode(document.text, add_special_tokens=False)
           for document in data.held_documents]  # fmt: skip
    places = zip(data.held.document.tolist(), data.held.position.tolist(), strict=True)
    return [distant_words(ids[document], position, data.vocabulary.texts) for document, position in places]


def build_oracle(
    target: Target, folder: Path, train: Sequence[Document], held: Sequence[Document], config: OracleConfig, seed: int
) -> tuple[DiffOracle, OracleRows]:
    """Capture, train everything, score everything.

    Args:
        target: the model that is explained.
        folder: its Hugging Face files; reader and reconstructors start from them.
        train: training documents.
        held: held-out documents.
        config: sizes and steps.
        seed: of positions, left-out heads and orders of rows.
    """
    data = capture(target, train, held, config, seed)
    oracle, curve = train_oracle(folder, data, config, seed, target.name)
    readers, curves = {}, {"gold": curve}
    for arm in config.arms:
        torch.manual_seed(seed)
        readers[arm] = fresh_oracle(folder, data, config).reconstructor
        curves[arm] = train_arm(arm, readers[arm], data, config, seed, target.tokenizer, target.model)
    long_context = train_long_context(folder, data, config, seed, target.tokenizer)
    return oracle, score_oracle(oracle, readers, curves, data, target, config, seed, long_context)


def rebuild_oracle(folder: Path, config: OracleConfig, seed: int, target: Target) -> None:
    """Remake the embedded oracle: seed 0 is shipped, of every seed the row scores are kept.

    Args:
        folder: holds ``target``; receives ``oracle`` and the row scores.
        config: sizes and steps.
        seed: of the stream of stories, and of everything drawn.
        target: the model in ``folder / "target"``.
    """
    train = world_documents(config.documents, seed)
    held = world_documents(config.held_documents, HELD_OUT_SEED)
    oracle, rows = build_oracle(target, folder / "target", train, held, config, seed)
    if seed == 0:
        oracle.save_pretrained(folder / "oracle", torch.float16)
    store_rows(folder / STORED_ROWS, rows)


def store_rows(path: Path, rows: OracleRows) -> None:
    """Put one seed's row scores into the file of all seeds."""
    others = [known for known in load_rows(path) if known.seed != rows.seed] if path.is_file() else []
    save_rows(sorted([*others, rows], key=lambda known: known.seed), path)
