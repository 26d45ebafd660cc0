"""Pairs that the training study has kept, scored on stories that no choice was made on.

    python -m lightning_modules.confirm_training runs

Reads ``runs/training-SEED/warm_start`` and ``runs/training-SEED/explanation/pair`` of every seed there.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_modules.nla_training import load_pair
from lightning_modules.rebuild import load_rebuilt
from lightning_modules.withholding import known_mean
from tl_nla.data import ExplainedStates, explain_states, world_documents
from tl_nla.errors import InputError
from tl_nla.evaluation.bootstrap import fve_interval
from tl_nla.evaluation.nla_rows import MAX_NEW_TOKENS
from tl_nla.evaluation.nla_suite import MIN_POSITION
from tl_nla.metrics import squared_deviations, squared_errors
from tl_nla.paths import user_path
from tl_nla.storyworld.tiny import WEIGHTS, embedded_grounding

STREAM = 4_000_003
"""Stories that the training study was not looked at on while it was made."""
ARMS: dict[str, str] = {"warm_start": "warm_start", "explanation": "explanation/pair"}


def fresh_states(documents: int, stream: int = STREAM) -> ExplainedStates:
    """Six states of each story of a stream."""
    target = load_rebuilt(WEIGHTS / "target")
    site, stories = "blocks.2.hook_resid_post", world_documents(documents, stream)
    return explain_states(
        target.model, target.tokenizer, stories, site, 6, MIN_POSITION, grounding=embedded_grounding()
    )


def confirm(folder: Path, states: ExplainedStates) -> dict[str, tuple[float, float, float]]:
    """FVE with its 95% interval of each arm and seed (``ARM/SEED``), and of each arm over all seeds (``ARM``).

    Args:
        folder: of the training study.
        states: to explain, greedily.

    Raises:
        InputError: when no seed's pairs are there.
    """
    runs = sorted(path for path in folder.glob("training-*") if (path / ARMS["explanation"] / "ar").is_dir())
    if not runs:
        raise InputError(f"no training-SEED/explanation/pair in {folder}; run python -m lightning_modules.studies")
    found: dict[str, tuple[float, float, float]] = {}
    for arm, inside in ARMS.items():
        errors, deviations = [], []
        for run in runs:
            pair = load_pair(str(run / inside))
            said = pair.generate(states.acts, max_new_tokens=MAX_NEW_TOKENS)
            texts = [text if ok else "" for text, ok in zip(said.texts, said.extracted, strict=True)]
            errors.append(squared_errors(pair.reconstruct(texts), states.acts, ~said.extracted))
            deviations.append(squared_deviations(states.acts, known_mean(pair)))
            found[f"{arm}/{run.name.removeprefix('training-')}"] = _interval(errors[-1:], deviations[-1:], states)
        found[arm] = _interval(errors, deviations, states)
    return found


def _interval(errors: list[Tensor], deviations: list[Tensor], states: ExplainedStates) -> tuple[float, float, float]:
    seeds = torch.arange(len(errors)).repeat_interleave(len(states))
    interval = fve_interval(
        torch.cat(errors), torch.cat(deviations), states.document.repeat(len(errors)), seeds,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return interval.value, interval.low, interval.high


def main(argv: Sequence[str] | None = None) -> None:
    """Write one JSON line an arm and seed to standard output."""
    parser = argparse.ArgumentParser(prog="python -m lightning_modules.confirm_training")
    parser.add_argument("folder", type=user_path, help="of the training study")
    parser.add_argument("--documents", type=int, default=60)
    found = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name, numbers in confirm(found.folder, fresh_states(found.documents)).items():
        sys.stdout.write(json.dumps({"arm": name, "fve": [round(number, 4) for number in numbers]}) + "\n")


if __name__ == "__main__":
    main()
