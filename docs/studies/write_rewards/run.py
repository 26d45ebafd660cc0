"""Does reward make the words of a diff oracle better, or only its reconstructor?

    python -m docs.studies.write_rewards.run --seed 0

The oracle's words before and after are read by its reconstructor before and after: what the new words gain through the
*old* reconstructor is theirs, and what the old words gain through the new one is the reconstructor's. Beside it stands
how many of the words are true, and what the answers to questions have lost.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from docs.studies.training.train import Recorder
from lightning_modules.data.asked_writes import AskedConfig
from lightning_modules.data.oracle_config import CaptureSizes
from lightning_modules.data.oracle_data import Captured, capture
from lightning_modules.data.settings import CorpusConfig, ServingConfig
from lightning_modules.training.diff import DiffDataModule
from lightning_modules.training.diff_rewards import DiffNLAReinforcement, load_oracle
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from tl_nla.benchmark.bootstrap import Interval, fve_interval, ratio_interval
from tl_nla.benchmark.oracle_score import MAX_NEW_TOKENS, named_sources, named_words
from tl_nla.benchmark.oracle_texts import readable, shuffled_rows
from tl_nla.metrics import normalise, squared_deviations, squared_errors
from tl_nla.model.sites import Site
from tl_nla.model.targets import load_target
from tl_nla.nla import RolloutConfig
from tl_nla.oracle import DiffOracle, LabelledWrites, parse_label
from tl_nla.paths import user_path
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.documents import world_documents

_STREAM = 700
"""First stream of stories that are trained on; the embedded oracle's are 0, 1 and 2."""
_LISTS = ("promoted", "suppressed", "sources")


@dataclass(frozen=True)
class WriteRewardsConfig:
    """Settings of the study; those of the stored run by default.

    Attributes:
        documents: stories trained on, two positions each, heads and MLPs.
        held_documents: stories scored on, three positions each.
        core_minutes: processor time of the training.
        batch: writes a step.
        group: explanations a write.
        learning_rate: of the reader.
        reconstructor_learning_rate: of the reconstructor.
        kl_weight: of the divergence from the oracle as it was.
    """

    documents: int = 800
    held_documents: int = 100
    core_minutes: float = 5.0
    batch: int = 48
    group: int = 4
    learning_rate: float = 5e-5
    reconstructor_learning_rate: float = 5e-5
    kl_weight: float = 0.02


def study_writes(model: str, config: WriteRewardsConfig, seed: int) -> Captured:
    """Writes of heads and MLPs of a stream of stories of its own, and of the held-out stories."""
    target = load_target(model)
    sizes = CaptureSizes(
        documents=config.documents, skip_documents=0, held_documents=config.held_documents, kinds=("head", "mlp")
    )
    train = world_documents(config.documents, _STREAM + seed)
    data = capture(target, train, world_documents(config.held_documents, HELD_OUT_SEED), sizes, seed)
    kept = torch.tensor([Site.parse(site).kind in sizes.kinds for site in data.held.sites])
    return replace(data, held=data.held.select(torch.nonzero(kept[data.held.site]).flatten()))


def reward(oracle: DiffOracle, data: Captured, config: WriteRewardsConfig, seed: int) -> list[list[float]]:
    """Train an oracle in place by :class:`DiffNLAReinforcement` for the configured processor time.

    Returns:
        The curve, a row a step, columns ``docs.studies.training.score.CURVE``.
    """
    module = DiffNLAReinforcement(
        oracle=oracle, rates=RateConfig(config.learning_rate, config.reconstructor_learning_rate, warmup_steps=5),
        policy=PolicyConfig(kl_weight=config.kl_weight, seed=seed),
        rollouts=RolloutConfig(config.group, MAX_NEW_TOKENS),
    )  # fmt: skip
    batches = DiffDataModule(
        corpus=CorpusConfig(seed=seed),
        asked=AskedConfig(swap_share=0.15, questions=0),
        serving=ServingConfig(config.batch),
    )
    batches.train_writes, batches.heldout_writes = data.train, data.held
    recorder = Recorder(60 * config.core_minutes)
    L.seed_everything(seed, workers=True, verbose=False)
    L.Trainer(
        accelerator="cpu", devices=1, max_epochs=-1, callbacks=[recorder], limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
    ).fit(module, datamodule=batches)  # fmt: skip
    oracle.eval()
    return recorder.rows


def crossed(
    before: DiffOracle, after: DiffOracle, data: Captured, seed: int
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """All scores, each with its 95% interval over held-out stories.

    Args:
        before: the oracle as it was.
        after: the same after training.
        data: the held-out writes and their stories.
        seed: of the shuffled control.

    Returns:
        Words (``before``, ``after``, label texts, words of another story's write) -> score -> value, low, high. FVE is
        ``fve/KIND/READER`` with the reader before or after. ``gain/...`` the same minus that of ``before``.
    """
    held = data.held
    told = {name: _explain(oracle, held) for name, oracle in (("before", before), ("after", after))}
    other = shuffled_rows(held, seed).tolist()
    texts = {**told, "labels": [held.text(row) for row in range(len(held))],
             "shuffled": [told["after"][row] for row in other]}  # fmt: skip
    mean = normalise(data.train.write).double().mean(0).float()
    deviation = squared_deviations(held.write, mean)
    errors = {(words, reader): _errors(oracle, said, held) for words, said in texts.items()
              for reader, oracle in (("before", before), ("after", after))}  # fmt: skip
    kinds = [Site.parse(site).kind for site in held.sites]
    found: dict[str, dict[str, tuple[float, float, float]]] = {words: {} for words in texts}
    for (words, reader), missed in errors.items():
        for kind in ("head", "mlp"):
            rows = torch.nonzero(torch.tensor([kinds[site] == kind for site in held.site.tolist()])).flatten()
            places = held.document[rows]
            found[words][f"fve/{kind}/{reader}"] = _round(
                fve_interval(missed[rows], deviation[rows], places, generator=_drawn())
            )
            gain = (errors["before", "before"] - missed)[rows]
            found[words][f"gain/{kind}/{reader}"] = _round(
                ratio_interval(gain, deviation[rows], places, generator=_drawn())
            )
    for words, said in told.items():
        found[words] |= truth_of_words(said, held)
    for words, oracle in (("before", before), ("after", after)):
        counts = {**named_words(oracle, held), **named_sources(oracle, held)}
        found[words] |= _ratios({name.removeprefix("explanation/"): pairs for name, pairs in counts.items()}, held)
    return found


def truth_of_words(said: Sequence[str], held: LabelledWrites) -> dict[str, tuple[float, float, float]]:
    """Of each list in the explanations: the share of its words that are in the label's, and of the label's in it.

    A share of nothing is left out.
    """
    counts = {}
    parsed = [parse_label(text) for text in said]
    for name in _LISTS:
        pairs = []
        for one, label in zip(parsed, held.labels, strict=True):
            named, right = ({word.casefold() for word in getattr(found, name) or ()} for found in (one, label))
            pairs.append([float(len(named & right)), float(len(named)), float(len(right))])
        table = torch.tensor(pairs)
        counts[f"precision/{name}"], counts[f"recall/{name}"] = table[:, [0, 1]], table[:, [0, 2]]
    counts["words"] = torch.tensor([[float(len(text.split())), 1.0] for text in said])
    return _ratios(counts, held)


def _explain(oracle: DiffOracle, held: LabelledWrites) -> list[str]:
    return oracle.explain(held.write, held.before, max_new_tokens=MAX_NEW_TOKENS)


def _errors(oracle: DiffOracle, texts: list[str], held: LabelledWrites) -> Tensor:
    return squared_errors(oracle.reconstruct(readable(oracle.reconstructor, texts)), held.write)


def _ratios(counts: dict[str, Tensor], held: LabelledWrites) -> dict[str, tuple[float, float, float]]:
    scores = {}
    for name, pairs in counts.items():
        rows = torch.nonzero(~pairs.isnan().any(1)).flatten()
        over, under = pairs[rows].double().unbind(1)
        if under.sum() > 0:
            scores[name] = _round(ratio_interval(over, under, held.document[rows], generator=_drawn()))
    return scores


def _round(interval: Interval) -> tuple[float, float, float]:
    return round(interval.value, 4), round(interval.low, 4), round(interval.high, 4)


def _drawn() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def run_study(
    model: str, oracle: str, config: WriteRewardsConfig, seed: int, folder: Path | None,
    say: Callable[[str], object],
) -> None:  # fmt: skip
    """Train, score, and say every number as one JSON line.

    Args:
        model: the target.
        oracle: where training starts: ``"tiny"``, or a folder.
        config: settings.
        seed: of stories, order and sampling.
        folder: where the trained oracle is saved; ``None`` for nowhere.
        say: receives the lines.
    """
    data = study_writes(model, config, seed)
    before = load_oracle(oracle)
    after = copy.deepcopy(before)
    curve = reward(after, data, config, seed)
    if folder is not None:
        after.save_pretrained(folder)
    say(json.dumps({"seed": seed, "steps": len(curve), "core_seconds": round(curve[-1][1], 1), "last": curve[-1]}))
    for words, scores in crossed(before, after, data, seed).items():
        for name, numbers in scores.items():
            say(json.dumps({"words": words, "score": name, "value": numbers}))


def main(argv: Sequence[str] | None = None) -> None:
    """Run one seed and write JSON lines to standard output."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.write_rewards.run")
    parser.add_argument("--model", default="tiny", help="the target (default: the embedded one)")
    parser.add_argument("--oracle", default="tiny", help="a folder of an oracle (default: the embedded one)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--core-minutes", type=float, default=WriteRewardsConfig.core_minutes)
    parser.add_argument("--documents", type=int, default=WriteRewardsConfig.documents)
    parser.add_argument("--held-documents", type=int, default=WriteRewardsConfig.held_documents)
    parser.add_argument("--learning-rate", type=float, default=WriteRewardsConfig.learning_rate)
    parser.add_argument(
        "--reconstructor-learning-rate", type=float, default=WriteRewardsConfig.reconstructor_learning_rate
    )
    parser.add_argument("--save", type=user_path, help="folder for the trained oracle")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rates = {"learning_rate": args.learning_rate, "reconstructor_learning_rate": args.reconstructor_learning_rate}
    config = WriteRewardsConfig(args.documents, args.held_documents, args.core_minutes, **rates)
    run_study(args.model, args.oracle, config, args.seed, args.save, lambda line: sys.stdout.write(line + "\n"))


if __name__ == "__main__":
    main()
