"""Arms that stored oracle rows lack: their readers are trained and scored on the rows that are there."""

from dataclasses import replace
from pathlib import Path

import torch

from lightning_modules.kept_parts import KeptParts
from lightning_modules.oracle_data import Captured, OracleConfig, capture
from lightning_modules.rebuild_oracle import (
    STORED_ROWS,
    fresh_oracle,
    previous_words,
    texts_of,
    trained_arm,
    trained_long_context,
)
from tl_nla.data import world_documents
from tl_nla.errors import InputError
from tl_nla.evaluation.oracle_rows import OracleRows, load_rows, save_rows
from tl_nla.evaluation.oracle_score import (
    MAX_NEW_TOKENS,
    frequent_sources,
    score_long_context,
    score_readers,
    score_sources,
)
from tl_nla.evaluation.oracle_texts import long_context_texts
from tl_nla.evaluation.own_run import score_own_run
from tl_nla.evaluation.rescore import place_of_rows
from tl_nla.evaluation.source_probe import score_source_probe
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import DiffOracle, WriteReconstructor
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.targets import Target

MISSING = ("state", "cat_long", "own_run")
"""Arms that can be added: none reads what an oracle says but for its length."""
_STRONG = "constant/recall_at_3/sources_distant_strong"


def add_missing_arms(
    folder: Path, config: OracleConfig, seed: int, target: Target, keep: Path | None = None
) -> tuple[str, ...]:
    """Train the readers of the arms in ``MISSING`` that one seed's stored rows lack, and add their scores.

    Rows from before strong sources were counted apart have the question about sources scored again.

    Args:
        folder: holds ``target``, ``oracle`` and the stored rows.
        config: sizes and steps; documents and steps should be those of the arms that are there.
        seed: of the rows.
        target: the model in ``folder / "target"``.
        keep: as for :func:`lightning_modules.rebuild_oracle.build_oracle`.

    Returns:
        The arms that were added.

    Raises:
        InputError: when nothing is stored of this seed.
    """
    parts = load_rows(folder / STORED_ROWS)
    chosen = [rows for rows in parts if rows.seed == seed]
    if not chosen:
        raise InputError(f"no rows of seed {seed} in {folder / STORED_ROWS}; run 'tl-nla rebuild-tiny --parts oracle'")
    (rows,) = chosen
    missing = tuple(arm for arm in MISSING if arm not in rows.errors)
    if missing or _STRONG not in rows.counts:
        nothing_trained = missing == ("own_run",) and _STRONG in rows.counts
        # Nothing of the training stories is needed then, but a capture needs one.
        data = data_of(rows, replace(config, documents=1, skip_documents=0) if nothing_trained else config, target)
        kept = KeptParts(keep and keep / f"seed_{seed}", f"seed {seed}, {len(data.train)} writes, {config}")
        oracle = DiffOracle.from_pretrained(folder / "oracle")
        add_arms(rows, missing, data, config, target, oracle, folder, kept)
        if _STRONG not in rows.counts:
            score_sources(
                rows, oracle, data.held, frequent_sources(data.train, data.held.sites), previous_words(target, data)
            )
            score_source_probe(rows, data.train, data.held)
        save_rows(parts, folder / STORED_ROWS)
    return missing


def data_of(rows: OracleRows, config: OracleConfig, target: Target) -> Captured:
    """Writes of the training stories, and those of the stored rows in their order."""
    each = len(rows.position[(rows.document == rows.document[0]) & (rows.site == rows.site[0])])
    settings = replace(config, held_positions=each)
    held = world_documents(int(rows.document.max()) + 1, HELD_OUT_SEED)
    data = capture(target, world_documents(config.documents, rows.seed), held, settings, rows.seed)
    return replace(data, held=data.held.select(place_of_rows(rows, data.held)))


def add_arms(
    rows: OracleRows, arms: tuple[str, ...], data: Captured, config: OracleConfig, target: Target, oracle: DiffOracle,
    folder: Path, kept: KeptParts,
) -> None:  # fmt: skip
    """Train the readers of these arms as those of the others were, and add their scores; ``own_run`` has none."""

    def fresh() -> WriteReconstructor:
        torch.manual_seed(rows.seed)
        return fresh_oracle(folder / "target", data, config).reconstructor

    if "state" in arms:
        _add_state(rows, fresh(), data, config, target, kept)
    if "cat_long" in arms:
        _add_long_context(rows, fresh(), data, config, target, oracle, kept)
    if "own_run" in arms:
        said = oracle.explain(data.held.write, data.held.before, max_new_tokens=MAX_NEW_TOKENS)
        score_own_run(rows, target, data.held, data.held_documents, said)


def _add_state(
    rows: OracleRows, reader: WriteReconstructor, data: Captured, config: OracleConfig, target: Target, kept: KeptParts
) -> None:
    curve = trained_arm("state", reader, data, config, rows.seed, target, kept)
    texts = texts_of("state", data, "heldout", target.tokenizer, target.model, rows.seed, config.top_k)
    score_readers(rows, {"state": reader}, {"state": texts}, data.held)
    rows.curves["state"] = torch.tensor([[step, *found] for step, found in zip(curve.steps, curve.scores, strict=True)])


def _add_long_context(
    rows: OracleRows, reader: WriteReconstructor, data: Captured, config: OracleConfig, target: Target,
    oracle: DiffOracle, kept: KeptParts,
) -> None:  # fmt: skip
    said = [data.train.text(row) for row in range(len(data.train))]
    encode = TextEncoder(target.tokenizer, target.model)
    texts = long_context_texts(data.train, said, encode, data.train_documents)
    trained_long_context(reader, texts, data, config, rows.seed, kept)
    told = oracle.explain(data.held.write, data.held.before, max_new_tokens=MAX_NEW_TOKENS)
    longer = long_context_texts(data.held, told, encode, data.held_documents)
    score_long_context(rows, reader, longer, data.held)
