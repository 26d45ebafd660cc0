"""A truer pair: words that the verbalizer was unsure of are withheld, and the reconstructor learns to read that.

    python -m docs.studies.faithfulness.withholding PAIRS --choose    # thresholds and steps, on validation documents
    python -m docs.studies.faithfulness.withholding PAIRS --seed 0    # once, on the held-out stream, and stored

The verbalizer is left as it is. ``PAIRS`` keeps warm-started pairs by seed (see ``docs.studies.warm_pairs``); the
row scores go where ``python -m docs.studies faithfulness`` finds them.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from docs.studies.faithfulness.withholding_rows import (
    ARMS,
    WithholdingRows,
    precision,
    recall,
    save_rows,
    score,
    total_fve,
)
from docs.studies.nla.run import held_out_states
from docs.studies.tiny.rebuild import RebuildConfig, run_steps
from docs.studies.warm_pairs import WarmPairs, matmul_precision
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.training.warm_start import ReconstructorWarmStart
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.faithfulness.abstention import withhold
from tl_nla.nla import NLA, Generation
from tl_nla.paths import user_path

_SITE = "blocks.2.hook_resid_post"


@dataclass(frozen=True)
class WithholdingConfig:
    """How words are withheld and the reconstructor trained on; threshold and steps were chosen on validation documents.

    Attributes:
        threshold: naming words below this probability are withheld.
        steps: of the reconstructor on the withheld words, 64 rows each.
        states: training states that words are generated about.
        learning_rate: peak of the one-cycle schedule.
        validation_documents: of the training split's own held-out documents, to choose on.
    """

    threshold: float = 0.3
    steps: int = 300
    states: int = 6000
    learning_rate: float = 5e-4
    validation_documents: int = 120

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if min(self.steps, self.states) < 1 or not 0 <= self.threshold <= 1:
            found = f"threshold {self.threshold}, {self.steps} steps, {self.states} states"
            raise InputError(f"{found}: a threshold is in [0, 1], steps and states are at least 1")


@dataclass(frozen=True)
class Said:
    """Greedy words of a pair about some states, kept so that several thresholds can be tried."""

    states: ExplainedStates
    generation: Generation

    @classmethod
    def by(cls, pair: NLA, states: ExplainedStates) -> "Said":
        """What the pair says about the states."""
        return cls(states, pair.generate(states.acts, max_new_tokens=MAX_NEW_TOKENS))

    def withheld(self, pair: NLA, threshold: float) -> list[str]:
        """The words with unsure ones withheld; as they were at 0."""
        return withhold(self.generation, pair.verbalizer.tokenizer, threshold)


def trained_reader(
    pair: NLA, data: ActivationDataModule, states: ExplainedStates, texts: list[str], config: WithholdingConfig,
    seed: int, precision_name: str = "medium",
) -> NLA:  # fmt: skip
    """A copy of the pair whose reconstructor was trained on these texts about these states."""
    other, rows = copy.deepcopy(pair), copy.copy(data)
    rows.train_states = dataclasses.replace(states, explanations=texts)
    module = ReconstructorWarmStart(nla=other, learning_rate=config.learning_rate)
    with matmul_precision(precision_name):
        run_steps(module, rows, config.steps, seed, limit_val_batches=0, enable_progress_bar=False)
    return other


def choose(
    pairs: WarmPairs, steps: int, thresholds: Sequence[float], lengths: Sequence[int], config: WithholdingConfig
) -> Iterator[dict[str, float]]:
    """Precision and FVE on validation documents for every threshold and number of steps, with the pair of seed 0.

    The first line is the pair as it is: threshold 0, no steps.

    Args:
        pairs: warm-started pairs.
        steps: length of the pair's warm start.
        thresholds: to try; 0 is the words as they were.
        lengths: numbers of steps to try.
        config: the rest.
    """
    pair, data = pairs.load(0, steps), pairs.data(0)
    train = Said.by(pair, first_rows(data.train_states, config.states))
    held: Any = data.heldout_states
    validation = Said.by(pair, first_rows(held, int((held.document < config.validation_documents).sum())))
    for threshold, length in [(0.0, 0), *itertools.product(thresholds, lengths)]:
        reader, used = pair, dataclasses.replace(config, threshold=threshold, steps=max(1, length))
        if length:
            texts = train.withheld(pair, threshold)
            reader = trained_reader(pair, data, train.states, texts, used, 0, pairs.precision)
        case = {"withheld": (validation.withheld(pair, threshold), reader.reconstruct)}
        rows = score(validation.states, known_mean(pair), case)
        numbers = {"fve": total_fve(rows, "withheld"), "precision": precision(rows, "withheld")}
        yield {"threshold": threshold, "steps": length, **numbers, "recall": recall(rows, "withheld")}


def measure(pairs: WarmPairs, seed: int, steps: int, config: WithholdingConfig) -> WithholdingRows:
    """Row scores on the held-out stream, for the configured threshold and steps.

    Args:
        pairs: warm-started pairs.
        seed: of the pair.
        steps: length of its warm start.
        config: what was chosen.
    """
    pair, data = pairs.load(seed, steps), pairs.data(seed)
    train = Said.by(pair, first_rows(data.train_states, config.states))
    held = Said.by(pair, held_out_states(pairs.target.model, pairs.target.tokenizer, _SITE))
    as_they_were, withheld = (held.withheld(pair, threshold) for threshold in (0.0, config.threshold))
    readers = [
        trained_reader(
            pair, data, train.states, train.withheld(pair, threshold), config, seed, pairs.precision
        ) for threshold in (config.threshold, 0.0)
    ]  # fmt: skip
    before, after, control = (own.reconstruct for own in (pair, *readers))
    cases = (as_they_were, before), (withheld, before), (withheld, after), (as_they_were, control)
    return score(held.states, known_mean(pair), dict(zip(ARMS, cases, strict=True)), seed)


def known_mean(pair: NLA) -> Float[Tensor, " d_model"]:
    """The mean of the states that a pair was trained on.

    Raises:
        InputError: when it was saved without.
    """
    if pair.mean is None:
        raise InputError(
            "the pair was saved without its training mean, which FVE is measured against; save it with one"
        )
    return pair.mean


def first_rows(states: Any, count: int) -> ExplainedStates:
    """The first rows of some states."""
    if states is None:
        raise InputError("no states were captured yet; call setup() first")
    cut = {f.name: getattr(states, f.name)[:count] for f in dataclasses.fields(states)}
    return dataclasses.replace(states, **cut)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the module's command."""
    defaults = WithholdingConfig()
    parser = argparse.ArgumentParser(prog="python -m docs.studies.faithfulness.withholding")
    parser.add_argument("pairs", type=user_path, help="folder of warm-started pairs; missing ones are trained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm", type=int, default=None, help="length of the warm start (seed 0: the shipped pair's)")
    parser.add_argument("--choose", action="store_true", help="try thresholds and steps on validation documents")
    parser.add_argument("--thresholds", type=float, nargs="+", default=(0.0, 0.3, 0.4, 0.5))
    parser.add_argument("--steps", type=int, nargs="+", default=(defaults.steps,))
    parser.add_argument("--documents", type=int, default=RebuildConfig().documents, help="training stories to read")
    parser.add_argument("--threshold", type=float, default=defaults.threshold)
    found = parser.parse_args(argv)
    pairs = WarmPairs(found.pairs, RebuildConfig(documents=found.documents))
    length = found.warm or pairs.config.verbalizer_steps
    if found.choose:
        for line in choose(pairs, length, found.thresholds, found.steps, defaults):
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    else:
        config = dataclasses.replace(defaults, threshold=found.threshold, steps=found.steps[0])
        save_rows(measure(pairs, found.seed, length, config), config.threshold, config.steps, length)


if __name__ == "__main__":
    main()
