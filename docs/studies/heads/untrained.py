"""An oracle that a quarter of the heads is kept from: what do its words carry of heads it never saw?"""

from pathlib import Path

from docs.studies.oracle_rows import store_rows
from lightning_modules.data.oracle_config import CaptureSizes, OracleConfig, StageLengths
from lightning_modules.training.oracle_arms import build_oracle
from lightning_modules.training.oracle_recipe import OracleRecipe
from lightning_modules.training.refinement import RefineConfig
from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.model.targets import Target
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.documents import world_documents

UNTRAINED_ROWS = "oracle_heldout_rows.safetensors"
WITHOUT_HEADS = OracleConfig(
    CaptureSizes(heldout_heads=0.25),
    StageLengths(verbalizer=4000, reconstructor=2500, own_words=500, own_writes=8000, long_context=0),
    sources=None,
    refine=RefineConfig(passes=0),
    arms=("cat",),
)
"""About half of the embedded oracle's steps; a quarter of all (layer, head) pairs that nothing is trained on; a
reader with two slots and linear heads."""


def train_without_heads(
    folder: Path, config: OracleConfig, seed: int, target: Target, keep: Path | None = None, rows: Path | None = None
) -> OracleRows:
    """Train an oracle without some of the heads, and a reader of raw context beside it.

    Args:
        folder: holds ``target``.
        config: sizes, steps and the share of heads left out, such as ``WITHOUT_HEADS``.
        seed: of everything drawn, the heads left out among it.
        target: the model in ``folder / "target"``.
        keep: folder of kept stages; each seed has one of its own in it.
        rows: folder that receives ``oracle_heldout_rows.safetensors``; ``folder`` when ``None``.
    """
    sizes = config.sizes
    train, held = world_documents(sizes.documents, seed), world_documents(sizes.held_documents, HELD_OUT_SEED)
    own = keep and keep / f"without_heads_{seed}"
    _, scores = build_oracle(OracleRecipe(target, folder / "target", train, held, config, seed, own))
    store_rows((rows or folder) / UNTRAINED_ROWS, scores)
    return scores
