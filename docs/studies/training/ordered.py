"""Stored runs of ordered explanations in suite ``training``: ``python -m docs.studies.training.ordered --seed 0``.

Explanations of the embedded pair begin with the recent words. The next word, which tells most, comes second, and a
policy that was taught one order never tries another. So the pair is first taught every order, and reinforcement
learning on explanations cut after a few tokens may then choose. The controls say what the order does without it.
"""

import argparse
import copy
import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from docs.studies.tiny.rebuild import run_steps
from docs.studies.training.score import TrainingRows
from docs.studies.training.train import ROWS, StudyConfig, reinforce, study_data, study_held_out
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.training.nla_training import RewardConfig, load_pair
from lightning_modules.training.warm_start import ReconstructorWarmStart, VerbalizerWarmStart
from tl_nla.data import ExplainedStates
from tl_nla.faithfulness.clauses import join_clauses, split_clauses
from tl_nla.nla import NLA
from tl_nla.paths import user_path

Order = Literal["recent_first", "next_first", "shuffled_order"]
ORDERS: tuple[Order, ...] = ("recent_first", "next_first", "shuffled_order")
ARMS = ("embedded", *ORDERS, "ordered")


@dataclass(frozen=True)
class OrderedConfig:
    """Settings of the study; those of the stored runs by default.

    Attributes:
        steps: of more warm start of each part, 64 rows each.
        learning_rate: its peak.
        cut_from: fewest tokens that a text of the reconstructor's warm start is cut to.
        cut_to: most tokens; log-uniform between the two.
        budget_from: smallest prefix budget of the reinforcement learning, tokens.
        budget_to: largest; log-uniform between the two, so that some explanations are read whole.
        core_minutes: processor time of the reinforcement learning.
        kl_weight: of the divergence from the shuffled-order warm start.
    """

    steps: int = 150
    learning_rate: float = 1e-3
    cut_from: int = 2
    cut_to: int = 50
    budget_from: int = 2
    budget_to: int = 60
    core_minutes: float = 3.0
    kl_weight: float = 0.02


def reorder(texts: Sequence[str], order: Order, seed: int) -> list[str]:
    """The clauses of each text in another order.

    Args:
        texts: explanations.
        order: as they are, the clause of the next word first, or a random permutation of each text.
        seed: of the permutations.
    """
    chooser, found = random.Random(seed), []
    for text in texts:
        clauses = split_clauses(text)
        if order == "next_first":
            clauses.sort(key=lambda clause: clause.kind != "next")
        elif order == "shuffled_order":
            chooser.shuffle(clauses)
        found.append(join_clauses(clauses))
    return found


def cut_texts(texts: Sequence[str], tokenizer: Any, low: int, high: int, seed: int) -> list[str]:
    """The first tokens of each text, their number log-uniform between ``low`` and ``high``."""
    chooser, found = random.Random(seed), []
    for text in texts:
        kept = int(math.exp(chooser.uniform(math.log(low), math.log(high + 1))))
        found.append(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)[:kept]).strip())
    return found


def rewritten(data: ActivationDataModule, rewrite: Callable[[list[str]], list[str]]) -> ActivationDataModule:
    """The same training states with other texts."""
    other, states = copy.copy(data), data.train_states
    if states is not None:
        other.train_states = dataclasses.replace(states, explanations=rewrite(states.explanations))
    return other


def ordered_warm_start(order: Order, data: ActivationDataModule, config: OrderedConfig, seed: int) -> NLA:
    """The shipped pair after more warm start on texts in one order; the reconstructor reads them cut.

    With ``recent_first``, the order that it knows, the verbalizer is left as it is.
    """
    pair = load_pair("tiny")
    data = rewritten(data, lambda texts: reorder(texts, order, seed))
    cut = rewritten(
        data, lambda texts: cut_texts(texts, pair.verbalizer.tokenizer, config.cut_from, config.cut_to, seed)
    )
    settings: dict[str, Any] = {"limit_val_batches": 0, "enable_progress_bar": False}
    if order != "recent_first":
        run_steps(
            VerbalizerWarmStart(nla=pair, learning_rate=config.learning_rate), data, config.steps, seed, **settings
        )  # fmt: skip
    run_steps(ReconstructorWarmStart(nla=pair, learning_rate=config.learning_rate), cut, config.steps, seed, **settings)
    pair.mean = data.mean
    return pair.eval()


def ordered_study(
    folder: Path, seed: int, config: OrderedConfig, data: ActivationDataModule | None = None,
    held: ExplainedStates | None = None, arms: tuple[str, ...] = ARMS, prefix_documents: int = 50,
) -> TrainingRows:  # fmt: skip
    """One seed of the arms of ordered explanations.

    Args:
        folder: of pairs, checkpoints and TensorBoard files; pairs that it holds are not trained again.
        seed: of stories, orders, cuts, rows and sampling; every seed starts from the one shipped pair.
        config: settings.
        data: captured states; captured here when ``None``.
        held: held-out states, likewise.
        arms: which of ``ARMS``.
        prefix_documents: held-out stories whose states are scored at every prefix.
    """
    data, held = data or study_data(seed), held or study_held_out()
    found = TrainingRows.of(seed, held, data.mean)
    if "embedded" in arms:
        found.score("embedded", load_pair("tiny"), held, prefix_documents)
    for order in ORDERS:
        needed = order in arms or (order == "shuffled_order" and "ordered" in arms)
        if needed and not (folder / order / "ar").is_dir():
            ordered_warm_start(order, data, config, seed).save_pretrained(folder / order)
        if order in arms:
            found.score(order, load_pair(str(folder / order)), held, prefix_documents)
    if "ordered" in arms:
        pair = load_pair(str(folder / "shuffled_order"))
        training = StudyConfig(core_minutes=config.core_minutes, kl_weight=config.kl_weight)
        reward = RewardConfig(budget_from=config.budget_from, budget_to=config.budget_to, budget_log=True)
        found.curve["ordered"] = reinforce(pair, data, training, folder / "ordered", seed, reward)
        pair.save_pretrained(folder / "ordered" / "pair")
        found.score("ordered", pair, held, prefix_documents)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run one seed and store its row scores beside those of the training study."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.training.ordered")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=user_path, default=Path("runs"), help="pairs, checkpoints and TensorBoard files"
    )
    parser.add_argument("--store", type=user_path, default=ROWS, help="where the row scores go")
    parser.add_argument("--core-minutes", type=float, default=OrderedConfig.core_minutes)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    config = OrderedConfig(core_minutes=args.core_minutes)
    rows = ordered_study(args.folder / f"ordered-{args.seed}", args.seed, config, arms=tuple(args.arms))
    rows.save(args.store / f"training_rows_{args.seed}.safetensors")


if __name__ == "__main__":
    main()
