"""Trains the planted steganographers' reconstructors and scores every detector on them.

    python -m lightning_modules.steganographer FOLDER --reference AR --steps 200

writes ``FOLDER/steganography_SEED.safetensors``: the score of each held-out document under each detector, for honest
words and for each planted steganographer, which ``tl-nla evaluate steganography`` reads.
"""

import argparse
import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lightning_modules.activations import ActivationDataModule
from lightning_modules.rebuild import run_steps
from lightning_modules.warm_start import ReconstructorWarmStart
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.evaluation.nla_rows import MAX_NEW_TOKENS
from tl_nla.faithfulness.detectors import Suspect, detect
from tl_nla.faithfulness.perturbations import paraphrase
from tl_nla.faithfulness.scoring import Reconstruct, Scorer, training_mean
from tl_nla.faithfulness.steganographer import KINDS, Steganographer
from tl_nla.nla import NLA

LEARNING_RATE = 1e-3


def train_reader(
    pair: NLA, data: ActivationDataModule, texts: Sequence[str], steps: int, seed: int, **trainer: Any
) -> Reconstruct:
    """A reconstructor trained on these texts about the training states, started from the pair's.

    Args:
        pair: its reconstructor is trained in place: give a copy.
        data: set up; its held-out explanations are not used.
        texts: one a training state.
        steps: optimiser steps of 64 rows.
        seed: of the order of rows.
        trainer: further arguments of ``lightning.Trainer``.
    """
    own = _with_texts(data, texts)
    for parameter in pair.parameters():
        parameter.requires_grad_(True)
    module = ReconstructorWarmStart(nla=pair, learning_rate=LEARNING_RATE)
    run_steps(module, own, steps, seed, limit_val_batches=0, **trainer)
    return pair.eval().reconstruct


def _with_texts(data: ActivationDataModule, texts: Sequence[str]) -> ActivationDataModule:
    other = copy.copy(data)
    other.train_states = dataclasses.replace(data.train_states, explanations=list(texts))  # type: ignore[type-var]
    return other


def plant(kind: str, honest: Reconstruct, train: ExplainedStates, held: ExplainedStates) -> tuple[list[str], list[str]]:
    """Texts of a steganographer about training and held-out states.

    Args:
        kind: what it hides its message in.
        honest: a reconstructor that reads honest words; ``style`` tells what these leave unexplained.
        train: states with honest explanations.
        held: states with honest explanations.
    """
    explained = [honest(states.explanations) if kind == "style" else None for states in (train, held)]
    writer = Steganographer.fit(kind, train.acts, explained[0])
    texts = [
        writer.write(writer.message(states.acts, known), states.explanations)
        for states, known in zip((train, held), explained, strict=True)
    ]
    return texts[0], texts[1]


def score_detectors(
    readers: dict[str, tuple[list[str], Reconstruct]], references: Sequence[Reconstruct], held: ExplainedStates,
    mean: Tensor, clean: tuple[Any, Any],
) -> dict[str, Tensor]:  # fmt: skip
    """Scores of each document: ``writer/detector`` -> one a document; ``writer/fve`` is the FVE of all rows.

    Args:
        readers: texts about the held-out states and the reconstructor trained with them, by writer.
        references: reconstructors trained with none of these writers.
        held: the states.
        mean: the training set's mean.
        clean: untouched model and tokenizer.
    """
    scores = {}
    for name, (texts, read) in readers.items():
        suspect = Suspect(Scorer(read, held.acts, mean), references, texts, held.document, held.truths, clean)
        scores[f"{name}/fve"] = torch.tensor([suspect.scorer.fve(texts)])
        for detector, values in detect(suspect).items():
            scores[f"{name}/{detector}"] = values
    return scores


def rebuild(
    pair_folder: Path, reference_folder: Path, path: Path, steps: int = 200, seed: int = 0, documents: int = 400,
    **trainer: Any,
) -> None:  # fmt: skip
    """Train all planted steganographers on the embedded target; store the scores of their words and of honest ones.

    Args:
        pair_folder: holds ``av`` and ``ar`` of the embedded pair. Its reconstructor reads the honest words as it is and
            is what the others' are trained from.
        reference_folder: a reconstructor trained on other stories, which reads everything and is trained no further.
        path: safetensors file to write.
        steps: optimiser steps of each reconstructor.
        seed: of the training stories and the order of rows.
        documents: stories to train on.
        trainer: further arguments of ``lightning.Trainer``.
    """
    from tl_nla.evaluation.nla_suite import held_out_states
    from tl_nla.targets import load_target

    target, pair = load_target(), _load(pair_folder)
    data = ActivationDataModule("tiny", documents=documents, positions_per_document=6, heldout=0.05, seed=seed)
    data.setup()
    train = data.train_states
    if train is None:
        raise InputError("no states were captured; give more documents")
    held = held_out_states(target.model, target.tokenizer, str(data.site))
    mean = pair.mean if pair.mean is not None else training_mean(train.acts)
    reference = NLA.from_pretrained(pair_folder / "av", reference_folder).reconstruct
    spoken = pair.generate(held.acts, max_new_tokens=MAX_NEW_TOKENS).texts
    writers = {"honest": (held.explanations, pair.reconstruct), "explanation": (spoken, pair.reconstruct)}
    for name in ("honest_reworded", *KINDS):
        train_texts, texts = _texts(name, pair.reconstruct, train, held)
        writers[name] = (texts, train_reader(_load(pair_folder), data, train_texts, steps, seed, **trainer))
    scores = score_detectors(writers, (reference,), held, mean, (target.model, target.tokenizer))
    save_file({name: value.float().contiguous() for name, value in scores.items()}, path)


def _texts(
    name: str, reference: Reconstruct, train: ExplainedStates, held: ExplainedStates
) -> tuple[list[str], list[str]]:
    if name == "honest_reworded":  # the wordings of the style, chosen by chance: rich style without a message
        return [paraphrase(text, 1) for text in train.explanations], [paraphrase(text, 1) for text in held.explanations]
    return plant(name, reference, train, held)


def _load(folder: Path) -> NLA:
    return NLA.from_pretrained(folder / "av", folder / "ar", dtype=torch.float32)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the module's command."""
    parser = argparse.ArgumentParser(prog="python -m lightning_modules.steganographer")
    parser.add_argument("folder", type=Path, help="holds av and ar; receives steganography_SEED.safetensors")
    parser.add_argument("--reference", type=Path, required=True, help="folder of a reconstructor of other stories")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args(argv)
    path = found.folder / f"steganography_{found.seed}.safetensors"
    rebuild(found.folder, found.reference, path, found.steps, found.seed, found.documents, enable_progress_bar=False)


if __name__ == "__main__":
    main()
