"""Remakes the embedded diff oracle, and the row scores of all seeds."""

from pathlib import Path

import torch

from docs.studies.oracle_rows import store_rows
from lightning_modules.data.oracle_config import OracleConfig
from lightning_modules.training.oracle_arms import build_oracle
from lightning_modules.training.oracle_recipe import OracleRecipe
from tl_nla.model.targets import Target
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.documents import world_documents

STORED_ROWS = "oracle_rows.safetensors"


def rebuild_oracle(
    folder: Path, config: OracleConfig, seed: int, target: Target, keep: Path | None = None, rows: Path | None = None
) -> None:
    """Remake the embedded oracle: seed 0 is shipped, of every seed the row scores are kept.

    Args:
        folder: holds ``target``; receives ``oracle``.
        config: sizes and steps.
        seed: of the stream of stories, and of everything drawn.
        target: the model in ``folder / "target"``.
        keep: folder of kept stages; each seed has one of its own in it.
        rows: folder that receives the row scores; ``folder`` when ``None``.
    """
    oracle, scores = build_oracle(recipe(folder, config, seed, target, keep))
    if seed == 0:
        oracle.base = "tiny"
        oracle.save_pretrained(folder / "oracle", torch.float16)
    store_rows((rows or folder) / STORED_ROWS, scores)


def recipe(folder: Path, config: OracleConfig, seed: int, target: Target, keep: Path | None = None) -> OracleRecipe:
    """What a seed's oracle is trained from: stories of the seed, and the held-out ones of all seeds."""
    sizes, slots = config.sizes, config.sources
    train, held = world_documents(sizes.documents, seed), world_documents(sizes.held_documents, HELD_OUT_SEED)
    more = world_documents(slots.documents + slots.practice_documents, seed, sizes.documents) if slots else ()
    own = None if keep is None else keep / f"seed_{seed}"
    return OracleRecipe(target, folder / "target", train, held, config, seed, own, more)
