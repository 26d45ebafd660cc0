"""Readers of texts trained several times longer than the stored ones: do words still add to raw context then?"""

from functools import partial
from pathlib import Path

import torch

from lightning_modules.kept_parts import KeptParts
from lightning_modules.missing_arms import data_of
from lightning_modules.oracle_data import Captured, OracleConfig
from lightning_modules.rebuild_oracle import STORED_ROWS, fresh_oracle, store_rows, texts_of, train_arm
from tl_nla.evaluation.oracle_rows import OracleRows, rows_of_seed
from tl_nla.evaluation.oracle_score import MAX_NEW_TOKENS, score_readers
from tl_nla.evaluation.oracle_texts import readable, shuffled_rows
from tl_nla.oracle import DiffOracle, WriteReconstructor
from tl_nla.targets import Target

LONGER_ROWS = "oracle_longer_rows.safetensors"
LONGER = OracleConfig(
    documents=10_000, skip_documents=0, positions=3, steps=6000, own_steps=0, batch_size=256, halved=True,
    kinds=("head",), arms=("cat", "cat_and_explanation", "gold"),
)  # fmt: skip
"""Heads only: 1.5 million readings of 480,000 writes. Four minutes on a GPU, an hour and a half of a core an arm."""


def train_longer(folder: Path, config: OracleConfig, target: Target, keep: Path | None = None) -> OracleRows:
    """Train the readers of ``config.arms`` anew and longer, and score them on the writes of heads stored of seed 0.

    Args:
        folder: holds ``target``, ``oracle`` and the stored rows; receives ``oracle_longer_rows.safetensors``.
        config: documents, arms and steps.
        target: the model in ``folder / "target"``.
        keep: as for :func:`lightning_modules.rebuild_oracle.build_oracle`.

    Returns:
        Row scores and learning curves; ``explanation`` is the oracle's words through the reader of ``gold``.

    Raises:
        InputError: when nothing is stored of seed 0, whose oracle is the shipped one.
    """
    rows = rows_of_seed(folder / STORED_ROWS, 0).only(("head",))
    data = data_of(rows, config, target)
    kept = KeptParts(keep and keep / "longer", f"seed 0, {len(data.train)} writes, {config}")
    readers: dict[str, WriteReconstructor] = {}
    for arm in config.arms:
        torch.manual_seed(rows.seed)
        reader = readers[arm] = fresh_oracle(folder / "target", data, config).reconstructor
        train_it = partial(train_arm, arm, reader, data, config, rows.seed, target.tokenizer, target.model)
        curve = kept.trained(arm, reader, train_it)
        points = zip(curve.steps, curve.scores, strict=True)
        rows.curves[arm] = torch.tensor([[step, *scores] for step, scores in points])
    _score(rows, readers, data, target, DiffOracle.from_pretrained(folder / "oracle"), config.top_k)
    store_rows(folder / LONGER_ROWS, rows)
    return rows


def _score(
    rows: OracleRows, readers: dict[str, WriteReconstructor], data: Captured, target: Target, oracle: DiffOracle,
    top_k: int,
) -> None:  # fmt: skip
    held, seed = data.held, rows.seed
    said = oracle.explain(held.write, held.before, max_new_tokens=MAX_NEW_TOKENS)
    said = readable(oracle.reconstructor, said)
    other = [said[row] for row in shuffled_rows(held, seed).tolist()]
    settings = target.tokenizer, target.model, seed, top_k
    given = {arm: None if arm == "gold" else said for arm in readers}
    texts = {arm: texts_of(arm, data, "heldout", *settings, explanations=given[arm]) for arm in readers}
    score_readers(rows, readers, texts, held)
    if "gold" in readers:
        both = {"explanation": said, "shuffled": other}
        score_readers(rows, dict.fromkeys(both, readers["gold"]), both, held)
    if "cat_and_explanation" in readers:
        mixed = {"cat_and_shuffled": texts_of("cat_and_explanation", data, "heldout", *settings, explanations=other)}
        score_readers(rows, {"cat_and_shuffled": readers["cat_and_explanation"]}, mixed, held)
