"""Stored runs of suite ``layers_matrix``: ``python -m docs.studies.layers_matrix.train --seed 0``.

A pair for every layer, each then scored at every layer, as it is and behind linear maps. And the shipped pair after a
short reinforcement learning on the states of another layer.
"""

import argparse
import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from docs.studies.layers_matrix.score import STORED_ROWS, LayerStates, add_scores, layer_states
from docs.studies.tiny.rebuild import load_rebuilt, run_steps
from docs.studies.training.train import StudyConfig, reinforce
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.settings import CorpusConfig, WordsConfig
from lightning_modules.training.nla_training import load_pair
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tl_nla.nla import NLA
from tl_nla.nla.adaptation import adapt
from tl_nla.paths import user_path
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.tiny import WEIGHTS, embedded_grounding


@dataclass(frozen=True)
class LayersConfig:
    """Settings of the study; those of the stored run by default.

    Attributes:
        documents: training stories, 6 positions each.
        held_out: held-out stories.
        steps: of more warm start of each part at another layer, 64 rows each, from the shipped pair.
        learning_rate: its peak.
        reinforced: layer whose states the shipped pair is reinforced on.
        core_minutes: processor time of that.
    """

    documents: int = 1200
    held_out: int = 60
    steps: int = 100
    learning_rate: float = 1e-3
    reinforced: int = 1
    core_minutes: float = 1.5


def layer_data(model: object, tokenizer: object, layers: range, config: LayersConfig, seed: int, home: int) -> dict[
    int, ActivationDataModule
]:  # fmt: skip
    """The same tokens and explanations with the states of each layer; the explanations are those of layer ``home``."""
    found: dict[int, ActivationDataModule] = {}
    for layer in sorted(layers, key=lambda layer: layer != home):
        grounding = embedded_grounding() if layer == home else None
        data = ActivationDataModule(
            model, tokenizer, f"blocks.{layer}.hook_resid_post",
            CorpusConfig(documents=config.documents, positions_per_document=6, seed=seed),
            WordsConfig(grounding=grounding),
        )  # fmt: skip
        data.setup()
        if layer != home and data.train_states is not None:
            data.train_states = dataclasses.replace(
                data.train_states,
                explanations=found[home].train_states.explanations,  # type: ignore[union-attr]
            )
        found[layer] = data
    return found


def pair_of_layer(data: ActivationDataModule, layer: int, config: LayersConfig, seed: int) -> NLA:
    """The shipped pair, taught the states of another layer; the shipped pair itself at its own."""
    pair = load_pair("tiny")
    if layer == pair.layer:
        return pair
    pair.layer, pair.mean = layer, data.mean
    for kind in (ReconstructorWarmStart, VerbalizerWarmStart):
        module = kind(nla=pair, learning_rate=config.learning_rate)
        run_steps(module, data, config.steps, seed, limit_val_batches=0, enable_progress_bar=False)
    return pair.eval()


def layers_study(folder: Path, store: Path, config: LayersConfig, seed: int = 0) -> None:
    """Train and score every pair, and put each into the file of rows as soon as it is done.

    Args:
        folder: of checkpoints and TensorBoard files of the reinforcement learning.
        store: the file of row scores.
        config: settings.
        seed: of stories, order of rows and sampling.
    """
    target = load_rebuilt(WEIGHTS / "target")
    layers = range(int(target.model.cfg.n_layers))
    shipped = load_pair("tiny")
    data = layer_data(target.model, target.tokenizer, layers, config, seed, shipped.layer)
    held = layer_states(target.model, target.tokenizer, layers, config.held_out, HELD_OUT_SEED)
    train = LayerStates({layer: one.train_states.acts for layer, one in data.items()}, torch.empty(0))  # type: ignore[union-attr]
    for layer in layers:
        pair = pair_of_layer(data[layer], layer, config, seed)
        for there in layers:
            add_scores(store, f"{layer}/{there}/warm_start", pair, train, held, there, seed)
            adapted = adapt(pair, train.acts[there], train.acts[layer], there)
            add_scores(store, f"{layer}/{there}/explanation", adapted, train, held, there, seed)
    there = config.reinforced
    reinforced = copy.deepcopy(shipped)
    settings = StudyConfig(core_minutes=config.core_minutes)
    reinforce(reinforced, data[there], settings, folder, seed)
    add_scores(store, f"{shipped.layer}/{there}/reinforced", reinforced, train, held, there, seed)


def main(arguments: list[str] | None = None) -> None:
    """Run the study and store its row scores."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.layers_matrix.train")
    parser.add_argument(
        "--folder", type=user_path, default=Path("runs/layers"), help="checkpoints and TensorBoard files"
    )
    parser.add_argument("--store", type=user_path, default=STORED_ROWS, help="the file of row scores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--core-minutes", type=float, default=LayersConfig.core_minutes)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    config = LayersConfig(core_minutes=args.core_minutes)
    layers_study(args.folder / f"seed-{args.seed}", args.store, config, args.seed)


if __name__ == "__main__":
    main()
