"""The last step of the shipped training: the reconstructor also learns to read what the verbalizer really says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from docs.studies.smollm2_nla.score import SURE
from lightning_modules.data.activations import StateExplanations, collate
from lightning_modules.data.kept_states import read_kept
from lightning_modules.training.warm_start import ReconstructorWarmStart
from tl_nla.model.control import cleaner
from tl_nla.nla.adapted_files import load_adapted, save_adapted
from tl_nla.nla.sure_words import leave_out, sure_tokens

ROWS, BATCH, RATE, CAP, TEMPERATURE, BEAMS = 4608, 32, 5e-4, 40, 0.7, 4


def read_own_words(folder: Path, states: Path, out: Path, reader: Path | None = None) -> None:
    """Train the reconstructor of a trained pair on its verbalizer's words, on its sure words and on written ones.

    The verbalizer gets most of the older words wrong. A reader of written explanations takes them at their word. A
    third of its own words are greedy, a third are sampled, as those are that a best of n is chosen from, and a third
    are found by a beam search. Each explanation is read twice, once with marks for the words that were said with a low
    probability.

    Args:
        folder: of the trained pair.
        states: that its training kept.
        out: where the pair is saved.
        reader: a pair whose reconstructor is trained on in the place of the first one's.
    """
    L.seed_everything(0)
    nla, kept = load_adapted(str(folder)), read_kept(states)
    if reader is not None:
        nla.reconstructor = load_adapted(str(reader)).reconstructor
    rows = torch.randperm(len(kept), generator=torch.Generator().manual_seed(1))[: 2 * ROWS].tolist()
    acts = kept.acts[rows[:ROWS]].chunk(3)
    capped: dict[str, Any] = {"max_new_tokens": CAP, "batch_size": 96, "progress": True}
    draws, clean = torch.Generator().manual_seed(3), cleaner(nla.verbalizer.tokenizer)
    said, marked = [], []
    for found in (
        nla.generate(acts[0], **capped), nla.generate(acts[1], **capped, temperature=TEMPERATURE, generator=draws),
        nla.search(acts[2], beams=BEAMS, **capped),
    ):  # fmt: skip
        tokens = sure_tokens(found, nla.verbalizer.tokenizer)
        said += found.texts
        marked += [leave_out(text, own, SURE) for text, own in zip(found.texts, tokens, strict=True)]
    texts = [clean(text).strip() for text in said + marked] + [kept.explanations[row] for row in rows[ROWS:]]
    rows = rows[:ROWS] + rows
    places = torch.tensor(rows)
    mixed = replace(
        kept, acts=kept.acts[places], explanations=texts, contexts=[kept.contexts[row] for row in rows],
        truths=[None] * len(rows), document=kept.document[places], position=kept.position[places],
    )  # fmt: skip
    loader = DataLoader(
        StateExplanations(mixed), BATCH, shuffle=True, drop_last=True, collate_fn=collate,
        generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    fit = L.Trainer(
        accelerator="cpu", precision="bf16-mixed", max_epochs=1, gradient_clip_val=1.0, logger=False,
        enable_checkpointing=False,
    )  # fmt: skip
    fit.fit(ReconstructorWarmStart(nla=nla, learning_rate=RATE), loader)
    save_adapted(nla, out)
