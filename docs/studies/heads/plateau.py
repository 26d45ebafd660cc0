"""How far raw context can be read: the model's own run on it, corrected by a network, with words and without.

A small language model that learns to read raw context climbs for as long as it is trained. The model that is explained
knows what it does with a text, so a network on top of its own run on the context starts where such a reader may once
arrive, and reaches its plateau in minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.heads.plateau_data import PlateauRows, context_rows, spoken_rows
from docs.studies.heads.write_network import Evidence, WriteNetwork
from docs.studies.oracle_rows import rows_of_seed, store_rows
from docs.studies.tiny.oracle import STORED_ROWS, recipe
from lightning_modules.data.oracle_config import OracleConfig
from lightning_modules.data.oracle_data import Captured
from lightning_modules.training.oracle_recipe import train_oracle
from lightning_modules.training.stage import StageConfig, StageSpec
from lightning_modules.training.stages import Stages
from tl_nla.benchmark.oracle_rows import KINDS, OracleRows
from tl_nla.benchmark.oracle_score import MAX_NEW_TOKENS
from tl_nla.benchmark.oracle_texts import readable, shuffled_rows
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.metrics import squared_errors
from tl_nla.model.sites import Site
from tl_nla.model.targets import Target
from tl_nla.oracle import DiffOracle, LabelledWrites
from tl_nla.storyworld.documents import world_documents

PLATEAU_ROWS = "oracle_plateau_rows.safetensors"
_UNTRAINED_ARMS = ("component", "probe")
_AT_ONCE = 4096


@dataclass(frozen=True)
class PlateauConfig:
    """What the network is trained on and for how long; the defaults are those of the stored rows.

    Attributes:
        documents: whose raw contexts are read, without any words.
        positions: of each of them.
        steps: optimiser steps, half of each batch raw context alone, a quarter words alone, a quarter both.
        batch_size: rows a step.
        hidden: width of the network.
        learning_rate: of AdamW.
        kinds: of writes.
    """

    documents: int = 10_000
    positions: int = 10
    steps: int = 6000
    batch_size: int = 1024
    hidden: int = 512
    learning_rate: float = 1e-3
    kinds: tuple[str, ...] = ("head",)

    def __post_init__(self) -> None:
        for name in ("documents", "positions", "steps", "batch_size", "hidden"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise InputError(f"kinds are {self.kinds}; allowed: one or more of {', '.join(KINDS)}")


QUICK_PLATEAU = PlateauConfig(documents=6, positions=2, steps=4, batch_size=8, hidden=8)
"""A test of the path."""


def train_plateau(
    folder: Path, config: OracleConfig, seed: int, target: Target, keep: Path | None = None,
    plateau: PlateauConfig | None = None, stored_in: Path | None = None,
) -> OracleRows:  # fmt: skip
    """Train one seed's network and score it on that seed's stored rows.

    Args:
        folder: holds ``target``.
        config: of the seed's oracle, which is trained first where ``keep`` does not hold it.
        seed: of stories, of the oracle, of the network and of the order of rows.
        target: the model in ``folder / "target"``.
        keep: as for :func:`docs.studies.tiny.oracle.rebuild_oracle`.
        plateau: settings of the network.
        stored_in: folder of the stored rows, which receives ``oracle_plateau_rows.safetensors``; ``folder`` when
            ``None``.

    Returns:
        Row scores and learning curves.

    Raises:
        InputError: when nothing is stored of this seed, or what is stored is of other writes.
    """
    plateau = plateau or PlateauConfig()
    place = stored_in or folder
    stored = rows_of_seed(place / STORED_ROWS, seed)
    how = recipe(folder, config, seed, target, keep)
    trained = train_oracle(how)
    oracle, data = trained.oracle, trained.data
    rows = stored.only(plateau.kinds, _UNTRAINED_ARMS)
    writes = _same_rows(rows, data.held)
    arms = arm_evidence(target, oracle, writes, how.held, seed)
    torch.manual_seed(seed)
    network = WriteNetwork(writes.write.shape[1], len(writes.sites), plateau.hidden)
    stages = Stages(how.keep and how.keep / "plateau", f"seed {seed}, {len(data.train)} writes, {config}, {plateau}")
    contexts = world_documents(plateau.documents, seed, config.sizes.documents)

    def score() -> dict[str, list[float]]:
        return {
            arm: rows.fve_by_kind(squared_errors(predict(network, known), writes.write)) for arm, known in arms.items()
        }

    def spec() -> StageSpec:
        return network_spec(network, plateau_rows(target, oracle, data, contexts, plateau, seed), plateau, seed, score)

    curve = stages.run("network", network, spec)
    rows.errors |= {arm: squared_errors(predict(network, known), writes.write) for arm, known in arms.items()}
    rows.errors["own_run"] = squared_errors(arms["cat"].write, writes.write)
    for arm in arms:
        points = zip(curve.steps, curve.scores, strict=True)
        rows.curves[arm] = torch.tensor([[step, *scores[arm]] for step, scores in points])
    store_rows(place / PLATEAU_ROWS, rows)
    return rows


def _same_rows(rows: OracleRows, held: LabelledWrites) -> LabelledWrites:
    found = held.select(torch.nonzero(torch.isin(held.site, rows.site.unique())).flatten())
    same = rows.sites == found.sites and all(
        torch.equal(getattr(rows, name), getattr(found, name)) for name in ("site", "document", "position")
    )
    if not same:
        raise InputError("the stored rows are of other writes than this configuration gives; make them anew first")
    return found


def arm_evidence(
    target: Target, oracle: DiffOracle, writes: LabelledWrites, documents: Sequence[Document], seed: int
) -> dict[str, Evidence]:
    """What each arm knows of held-out writes: the model's own run on their contexts, words of the oracle, or both."""
    said = oracle.explain(writes.write, writes.before, max_new_tokens=MAX_NEW_TOKENS)
    both, _ = spoken_rows(target, oracle, writes, documents, said)
    labels = readable(oracle.reconstructor, [writes.text(row) for row in range(len(writes))])
    gold = oracle.reconstruct(labels, refined=False)
    other = replace(both, told=both.told[shuffled_rows(writes, seed)])
    return {
        "explanation": both.limited(False, True), "gold": replace(both, told=gold).limited(False, True),
        "cat_and_explanation": both, "cat": both.limited(True, False), "cat_and_shuffled": other,
        "shuffled": other.limited(False, True),
    }  # fmt: skip


def plateau_rows(
    target: Target, oracle: DiffOracle, data: Captured, documents: Sequence[Document], config: PlateauConfig, seed: int
) -> PlateauRows:
    """What the network is trained on: contexts of many documents, and training writes in the oracle's own words."""
    names = [site for site in data.train.sites if Site.parse(site).kind in config.kinds]
    wanted = torch.tensor([data.train.sites.index(name) for name in names])
    writes = data.train.select(torch.nonzero(torch.isin(data.train.site, wanted)).flatten())
    # Components are numbered as in the held-out writes, where those that were left out have numbers, too.
    numbers = torch.tensor([data.held.sites.index(site) for site in data.train.sites])
    writes = replace(writes, sites=data.held.sites, site=numbers[writes.site])
    said = oracle.explain(writes.write, writes.before, max_new_tokens=MAX_NEW_TOKENS)
    spoken, written = spoken_rows(target, oracle, writes, data.train_documents, said)
    contexts = context_rows(target, documents, names, numbers[wanted], spoken.length, config.positions, seed)
    return PlateauRows(contexts, spoken, written)


def network_spec(network: WriteNetwork, table: PlateauRows, config: PlateauConfig, seed: int, score: Any) -> StageSpec:
    """The stage of the network, on all three kinds of evidence at once."""
    how = StageConfig(config.steps, config.batch_size, config.learning_rate, seed, down=0.3, curve=4, optimizer="adamw")
    return StageSpec(lambda rows: network.loss(*table.batch(rows)), len(table), how, score)


@torch.no_grad()
def predict(network: WriteNetwork, known: Evidence) -> Tensor:
    """Writes at norm √d_model, many at a time."""
    parts = [known.select(slice(start, start + _AT_ONCE)) for start in range(0, len(known), _AT_ONCE)]
    return torch.cat([network(part) for part in parts])
