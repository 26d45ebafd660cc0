"""An oracle of words for a model of one's own: captured writes, one pass over the components, no steps, no rate."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lightning_modules.callbacks.learning_curve import Curve
from lightning_modules.data.oracle_data import capture
from lightning_modules.training.oracle_recipe import OracleRecipe, TrainedOracle
from lightning_modules.training.stages import Stages
from tl_nla.benchmark.oracle_score import component_means, start_rows
from tl_nla.data.progress import listening
from tl_nla.metrics import squared_errors
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import LabelledWrites
from tl_nla.oracle.words import WordOracle

_CURVE_ROWS = 1500


def fit_words(recipe: OracleRecipe) -> TrainedOracle:
    """Capture writes and fit words to them, or go on with what an earlier run did not finish.

    Spans are left out: nothing in a span's write tells which span it is.

    Args:
        recipe: model, documents, and what is captured; steps and rates do not matter.

    Raises:
        InputError: for a model whose read-out is not known, or kept writes of other settings.
        KeyboardInterrupt: when the user interrupts; the same call goes on.
    """
    target, tell = recipe.target, recipe.tell
    kinds = recipe.config.sizes.kinds or ("head", "attn", "mlp", "block")
    sizes = replace(recipe.config.sizes, skip_documents=0, held_skips=False, kinds=kinds, heldout_heads=0.0)
    kept = None if recipe.keep is None else recipe.keep / "writes"
    if tell is not None:
        tell("capture", 0, 0)
    with listening(None if tell is None else lambda what, done, total: tell("capture", done, total)):
        data = capture(target, recipe.train, recipe.held, sizes, recipe.seed, kept)
    encode = TextEncoder(target.tokenizer, target.model)
    counts = torch.zeros(int(target.model.cfg.d_vocab), dtype=torch.long)
    for document in recipe.train:
        counts += torch.bincount(torch.tensor(encode(document.text).ids, dtype=torch.long), minlength=len(counts))
    with listening(None if tell is None else lambda what, done, total: tell("words", done, total)):
        folder: Path | None = None if recipe.keep is None else recipe.keep / "words"
        writes = BySite(data.train)
        oracle = WordOracle.fitted(target.model, target.tokenizer, writes, counts, base=target.name, keep=folder)
    stages = Stages(recipe.keep, recipe.settings(len(data.train)), tell)
    return TrainedOracle(oracle, data, stages, _scored(oracle, data.train, data.held, data.untrained), recipe)


class BySite(Mapping[str, tuple[Tensor, Tensor]]):
    """States before and writes of each site that has any."""

    def __init__(self, writes: LabelledWrites) -> None:
        self.writes = writes
        self.rows = {name: rows for number, name in enumerate(writes.sites)
                     if len(rows := torch.nonzero(writes.site == number).flatten())}  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __getitem__(self, site: str) -> tuple[Tensor, Tensor]:
        rows = self.rows[site]
        return self.writes.before[rows], self.writes.write[rows]


def _scored(oracle: WordOracle, train: LabelledWrites, held: LabelledWrites, untrained: tuple[str, ...]) -> Curve:
    """One point: FVE by kind of some held-out writes from the oracle's own words."""
    rows = torch.randperm(len(held), generator=torch.Generator().manual_seed(5))[:_CURVE_ROWS]
    some = held.select(rows)
    known = start_rows(some, component_means(train, held.sites), untrained, 0)
    found = oracle.reconstruct(oracle.explain(some.write, some.before))
    return Curve([0], [known.fve_by_kind(squared_errors(found, some.write))])
