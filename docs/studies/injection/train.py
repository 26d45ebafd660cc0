"""Stored runs of suite ``injection``: ``python -m docs.studies.injection.train --seed 0``."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from docs.studies.tiny.rebuild import run_steps
from docs.studies.training.score import document_sums
from docs.studies.training.train import study_data, study_held_out
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.training.nla_training import load_pair
from lightning_modules.training.warm_start import VerbalizerWarmStart
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.benchmark.results import INJECTION_ARMS
from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.data import ExplainedStates
from tl_nla.metrics import squared_deviations, squared_errors
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.nla.fresh import mean_embedding_norm
from tl_nla.nla.prompts import TINY_AR_TEMPLATE, TINY_AV_TEMPLATE
from tl_nla.paths import user_path
from tl_nla.storyworld.tiny import WEIGHTS

ROWS = Path(__file__).parent / "rows"


def arm_injection(arm: str, norm: float) -> InjectionConfig:
    """The injection that an arm's name stands for.

    Args:
        arm: one of ``INJECTION_ARMS``.
        norm: mean norm of the token embeddings.
    """
    name, _, slots = arm.partition("/")
    kind, _, factor = name.partition("_") if name.startswith("constant") else (name, "", "1")
    scale = norm * float(factor) if kind in ("constant", "affine") else None
    return InjectionConfig(kind, scale, int(slots.split("_")[0]) if slots else 1)


def train_arm(arm: str, data: ActivationDataModule, steps: int, seed: int) -> NLA:
    """A verbalizer warm-started with one injection; the reconstructor of the pair is the shipped one."""
    folder = WEIGHTS / "target"
    model = load_causal_lm(folder, torch.float32)
    injection = arm_injection(arm, mean_embedding_norm(model))
    nla = NLA.create(model, load_tokenizer(folder), 2, injection, TINY_AV_TEMPLATE, TINY_AR_TEMPLATE)
    module = VerbalizerWarmStart(nla=nla, learning_rate=2e-3)
    run_steps(module, data, steps, seed, limit_val_batches=0, enable_progress_bar=False)
    nla.reconstructor = load_pair("tiny").reconstructor
    return nla.eval()


def score_arm(nla: NLA, acts: Tensor, document: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error summed over each held-out story, and the share of its explanations that could be extracted."""
    found = nla.generate(acts, max_new_tokens=MAX_NEW_TOKENS)
    texts = [text if ok else "" for text, ok in zip(found.texts, found.extracted, strict=True)]
    errors = squared_errors(nla.reconstruct(texts), acts, ~found.extracted)
    rates = document_sums(found.extracted, document) / document_sums(torch.ones(len(acts)), document)
    return document_sums(errors, document).float(), rates.float()


def injection_study(
    path: Path, seed: int, steps: int, arms: tuple[str, ...] = INJECTION_ARMS,
    data: ActivationDataModule | None = None, held: ExplainedStates | None = None, stories: int = 75,
) -> None:  # fmt: skip
    """Train and score arms, and put each into the file of its seed as soon as it is done; known arms are left alone.

    Args:
        path: the file of row scores.
        seed: of stories and order of rows.
        steps: of every verbalizer, 64 rows each.
        arms: which ones.
        data: captured states; captured here when ``None``.
        held: held-out states, likewise.
        stories: how many held-out stories are scored.
    """
    data, held = data or study_data(seed), held or study_held_out()
    first = torch.isin(held.document, held.document.unique()[:stories])
    acts, document = held.acts[first], held.document[first]
    known = read_rows(path)[0] or {
        "document": document.unique(),
        "deviation": document_sums(squared_deviations(acts, data.mean), document).float(),
        "steps": torch.tensor(steps),
    }  # fmt: skip
    for arm in arms:
        if f"errors/{arm}" not in known:
            errors, extracted = score_arm(train_arm(arm, data, steps, seed), acts, document)
            known |= {f"errors/{arm}": errors, f"extracted/{arm}": extracted}
            write_rows(path, known)


def main(arguments: list[str] | None = None) -> None:
    """Run one seed and store its row scores."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.injection.train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--store", type=user_path, default=ROWS)
    parser.add_argument("--arms", nargs="+", default=list(INJECTION_ARMS), choices=INJECTION_ARMS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = args.store / f"injection_rows_{args.seed}.safetensors"
    injection_study(path, args.seed, args.steps, tuple(args.arms))


if __name__ == "__main__":
    main()
