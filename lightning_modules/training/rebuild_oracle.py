"""Trains a diff oracle on any target with the readers of all arms it is compared with, and scores them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lightning_modules.data.oracle_data import Captured, OracleConfig, capture
from lightning_modules.training.diff import WriteTexts
from lightning_modules.training.fit_oracle import Curve, FitConfig, fit_reader, fit_reconstructor
from lightning_modules.training.kept_parts import KeptParts
from lightning_modules.training.refinement import refine
from lightning_modules.training.source_encoder import add_source_slots
from tl_nla.benchmark.oracle_rows import OracleRows, load_rows, save_rows
from tl_nla.benchmark.oracle_score import (
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
from tl_nla.benchmark.oracle_texts import arm_texts, long_context_texts, readable, shuffled_rows, state_texts
from tl_nla.benchmark.own_run import score_own_run
from tl_nla.benchmark.source_probe import score_source_probe
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.metrics import squared_errors
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import Target
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import DiffOracle, LabelledWrites, WriteReconstructor
from tl_nla.oracle.labels import Lens
from tl_nla.oracle.reader_prompts import longest_prompt, reader_marker

_CURVE_ROWS = 1500
_OWN_RATE = 0.5
"""Share of the learning rate for the second training: the reconstructor already reads labels."""


def train_oracle(oracle: DiffOracle, data: Captured, config: OracleConfig, seed: int) -> Curve:
    """Train reader and reconstructor of a fresh oracle on labels; gives the reconstructor's learning curve."""
    items = WriteTexts(data.train, 0.15, seed, 0.6, 0.05, config.questions)
    fit_reader(oracle.reader, items, _fit_config(config, config.reader_steps, seed))
    return train_arm("gold", oracle.reconstructor, data, config, seed, oracle.reader.tokenizer, None)


def read_own_words(oracle: DiffOracle, data: Captured, config: OracleConfig, seed: int) -> Curve:
    """Train the reconstructor on, half on the reader's own greedy words about training writes, half on labels."""
    drawn = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    writes = data.train.select(drawn[: 2 * config.own_words])
    texts = readable(oracle.reconstructor, half_own_words(oracle, writes, config))
    fit = _fit_config(config, config.own_steps, seed + 1, _OWN_RATE)
    return fit_reconstructor(oracle.reconstructor, texts, writes.write, fit)


def half_own_words(oracle: DiffOracle, writes: LabelledWrites, config: OracleConfig) -> list[str]:
    """What the reader says, greedily, of the first half of some writes, and the label texts of the others."""
    cut = (len(writes) + 1) // 2
    together = 256 if config.device == "cpu" else 4096
    said = oracle.explain(writes.write[:cut], writes.before[:cut], max_new_tokens=MAX_NEW_TOKENS, batch_size=together)
    return [*said, *(writes.text(row) for row in range(cut, len(writes)))]


def _fit_config(config: OracleConfig, steps: int, seed: int, share: float = 1.0) -> FitConfig:
    rate = share * config.learning_rate
    fit = FitConfig(steps, config.batch_size, rate, seed, precision=config.precision)
    return replace(fit, down=0.3, curve=4, halved=True) if config.halved else fit


def fresh_oracle(folder: Path, data: Captured, config: OracleConfig, base: str = "") -> DiffOracle:
    """An untrained oracle that knows the usual magnitudes, on the device of the trainings."""
    model, tokenizer = load_causal_lm(folder, torch.float32), load_tokenizer(folder)
    blocks = min(config.blocks, int(model.config.num_hidden_layers))
    oracle = DiffOracle.create(
        model, tokenizer, data.train.write.shape[1], blocks=blocks, injection_char=config.injection_char, base=base
    )
    oracle.fit(data.train.before, data.train.write)
    oracle.strength = data.reference
    # Tokens are what a pass costs on a CPU, launches are on a GPU.
    oracle.reader.by_length = config.device == "cpu"
    return oracle.to(config.device)


def check_reader(target: Target, folder: Path, config: OracleConfig) -> None:
    """Refuse at once, not after a long capture, a model that no reader can be made from.

    Raises:
        InputError: when no marker can be had, or the longest prompt with an answer is longer than the context.
    """
    marker = reader_marker(load_tokenizer(folder), char=config.injection_char)
    longest, context = longest_prompt(marker), int(target.model.cfg.n_ctx)
    if longest + MAX_NEW_TOKENS > context:
        raise InputError(
            f"{target.name!r} has a context of {context} tokens; its oracle's prompts have up to {longest} in this "
            f"tokenizer and its answers up to {MAX_NEW_TOKENS}, so a context of {longest + MAX_NEW_TOKENS} is needed"
        )


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


def trained_arm(
    arm: str, reader: WriteReconstructor, data: Captured, config: OracleConfig, seed: int, target: Target,
    kept: KeptParts,
) -> Curve:  # fmt: skip
    """The reader of one arm trained, with its refinement, or as an earlier run kept them; gives the learning curve."""
    settings = target.tokenizer, target.model, seed
    train_it = partial(train_arm, arm, reader, data, config, seed, target.tokenizer, target.model)
    curve = kept.trained(arm, reader, train_it)
    rows = config.refine.drawn(len(data.train), seed)

    def texts() -> list[str]:
        own = texts_of(arm, data, "train", *settings, config.top_k)
        return [own[row] for row in rows.tolist()]

    refine(reader, texts, data.train.write[rows], config.refine, seed, kept, f"{arm}_refinement")
    return curve


def train_long_context(
    reader: WriteReconstructor, texts: dict[int, str], data: Captured, config: OracleConfig, seed: int
) -> Curve:
    """Train the reader of raw context that is as long as the label texts of an attention's heads together.

    Args:
        reader: trained in place.
        texts: training row -> text.
        data: captured.
        config: steps and rate.
        seed: of the order of rows.
    """
    write = data.train.write[torch.tensor(list(texts))]
    fit = _fit_config(config, config.long_steps, seed)
    return fit_reconstructor(reader, readable(reader, list(texts.values())), write, fit)


def texts_of(
    arm: str, data: Captured, split: str, tokenizer: Any, model: Any, seed: int, top_k: int,
    explanations: Sequence[str] | None = None,
) -> list[str]:  # fmt: skip
    """Texts of an arm on one split; the states' own effects where the arm is ``state``."""
    training = split == "train"
    writes = data.train if training else data.held
    documents = data.train_documents if training else data.held_documents
    states = state_texts(writes, Lens.of(model), data.vocabulary, top_k) if arm == "state" else None
    encode = TextEncoder(tokenizer, model)
    return arm_texts(arm, writes, encode, documents, seed, training, explanations, states)


def curve_scorer(reconstructor: WriteReconstructor, texts: Sequence[str], data: Captured) -> Callable[[], list[float]]:
    """FVE of each of ``KINDS`` on some held-out writes of trained components."""
    held = data.held
    rows = torch.randperm(len(held), generator=torch.Generator().manual_seed(5))[:_CURVE_ROWS]
    means = component_means(data.train, held.sites)
    known = start_rows(held.select(rows), means, data.untrained, 0)

    def score() -> list[float]:
        return known.fve_by_kind(
            squared_errors(reconstructor.reconstruct([texts[row] for row in rows.tolist()]), held.write[rows])
        )

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
        encode = TextEncoder(target.tokenizer, target.model)
        longer = long_context_texts(held, explanations, encode, data.held_documents)
        score_long_context(rows, long_context, longer, held)
    score_own_run(rows, target, held, data.held_documents, explanations)
    score_state_probe(rows, data.train, held)
    score_answers(
        rows, oracle, held, explanations, frequent_sources(data.train, held.sites), previous_words(target, data)
    )
    score_flip_probe(rows, data.train, held)
    score_source_probe(rows, data.train, held)
    for arm, curve in curves.items():
        rows.curves[arm] = torch.tensor(
            [[step, *scores] for step, scores in zip(curve.steps, curve.scores, strict=True)]
        )
    return rows


def previous_words(target: Target, data: Captured) -> list[list[str]]:
    """For each held-out row the words nearest to it among those too far back to be local."""
    encode = TextEncoder(target.tokenizer, target.model)
    ids = [encode(document.text).ids for document in data.held_documents]
    places = zip(data.held.document.tolist(), data.held.position.tolist(), strict=True)
    return [distant_words(ids[document], position, data.vocabulary.texts) for document, position in places]


def build_oracle(
    target: Target, folder: Path, train: Sequence[Document], held: Sequence[Document], config: OracleConfig, seed: int,
    keep: Path | None = None, more: Sequence[Document] = (),
) -> tuple[DiffOracle, OracleRows]:  # fmt: skip
    """Capture, train everything, score everything.

    Args:
        target: the model that is explained.
        folder: its Hugging Face files; reader and reconstructors start from them.
        train: training documents.
        held: held-out documents.
        config: sizes and steps.
        seed: of positions, left-out heads and orders of rows.
        keep: folder in which trained parts are kept, and found again by a run that was interrupted.
        more: documents for the source slots: of their encoder, and of the practice; the training ones when empty.
    """
    oracle, data, kept, curve = train_parts(target, folder, train, held, config, seed, keep, more)
    curves = {"gold": curve}

    def fresh() -> DiffOracle:
        torch.manual_seed(seed)
        return fresh_oracle(folder, data, config)

    readers = {}
    for arm in config.arms:
        reader = readers[arm] = fresh().reconstructor
        curves[arm] = trained_arm(arm, reader, data, config, seed, target, kept)
    long_context = _long_context(fresh, kept, data, config, seed, target)
    return oracle, score_oracle(oracle, readers, curves, data, target, config, seed, long_context)


def train_parts(
    target: Target, folder: Path, train: Sequence[Document], held: Sequence[Document], config: OracleConfig, seed: int,
    keep: Path | None = None, more: Sequence[Document] = (),
) -> tuple[DiffOracle, Captured, KeptParts, Curve]:  # fmt: skip
    """Capture and train an oracle without any control; arguments as of :func:`build_oracle`.

    Returns:
        The oracle, what it was trained on, where parts are kept, and its reconstructor's learning curve.
    """
    check_reader(target, folder, config)
    data = capture(target, train, held, config, seed)
    kept = KeptParts(keep, f"seed {seed}, {len(data.train)} writes, {config}")
    torch.manual_seed(seed)
    oracle = fresh_oracle(folder, data, config, target.name)
    both = torch.nn.ModuleList([oracle.reader, oracle.reconstructor])
    curve = kept.trained("oracle", both, lambda: train_oracle(oracle, data, config, seed))
    add_source_slots(oracle.reader, target, data, more or train, kept, config, seed)
    if config.own_words and config.own_steps:
        kept.trained("own_words", oracle.reconstructor, lambda: read_own_words(oracle, data, config, seed))
    rows = config.refine.drawn(len(data.train), seed)
    own_texts = partial(half_own_words, oracle, data.train.select(rows), config)
    refine(oracle.reconstructor, own_texts, data.train.write[rows], config.refine, seed, kept, "refinement")
    return oracle, data, kept, curve


def _long_context(
    fresh: Callable[[], DiffOracle], kept: KeptParts, data: Captured, config: OracleConfig, seed: int, target: Target
) -> WriteReconstructor | None:
    said = [data.train.text(row) for row in range(len(data.train))] if config.long_steps else []
    encode = TextEncoder(target.tokenizer, target.model)
    texts = long_context_texts(data.train, said, encode, data.train_documents) if said else {}
    return trained_long_context(fresh().reconstructor, texts, data, config, seed, kept) if texts else None


def trained_long_context(
    reader: WriteReconstructor, texts: dict[int, str], data: Captured, config: OracleConfig, seed: int, kept: KeptParts
) -> WriteReconstructor:
    """The reader of :func:`train_long_context` trained, with its refinement, or as an earlier run kept them."""
    kept.trained("cat_long", reader, lambda: train_long_context(reader, texts, data, config, seed))
    write = data.train.write[torch.tensor(list(texts))]
    refine(reader, lambda: list(texts.values()), write, config.refine, seed, kept, "cat_long_refinement")
    return reader


def store_rows(path: Path, rows: OracleRows) -> None:
    """Put one seed's row scores into the file of all seeds."""
    others = [known for known in load_rows(path) if known.seed != rows.seed] if path.is_file() else []
    save_rows(sorted([*others, rows], key=lambda known: known.seed), path)
