"""Fits the shipped oracle of words: ``python -m docs.studies.smollm2.fit --corpus corpus --keep writes --out FOLDER``.

Writes of the training documents are captured once into ``--keep``; held-out documents are captured for the scores only.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from docs.studies.smollm2.writes import AllWrites, SiteWrites, capture_all, corpus_counts
from tl_nla.data.progress import listening
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import load_target
from tl_nla.oracle.words import FitConfig, WordOracle
from tl_nla.smollm2.fingerprint import fingerprint
from tl_nla.smollm2.weights import find_weights

DOCUMENTS = {
    "train": ("train", 0, 48), "held_out": ("held_out", 0, 14), "fresh": ("held_out", 14, 44),
    "later": ("held_out", 44, 84),
}  # fmt: skip
"""File of the corpus, and which documents of each kind of text. The design was chosen while looking at ``held_out``.
How many words MLPs and blocks choose from was chosen while looking at ``fresh``. Nothing was chosen on ``later``, which
has three kinds of text only: of the others all documents were read before."""
EVERY = 2
"""Every second of the captured rows is used."""


def captured(corpus: Path, keep: Path, name: str) -> AllWrites:
    """The rows of one side of the split, read once."""
    path = keep / f"{name}.safetensors"
    if not path.is_file():
        keep.mkdir(parents=True, exist_ok=True)
        folder = find_weights()
        model = load_causal_lm(folder, torch.bfloat16).eval()
        rows = capture_all(model, load_tokenizer(folder), corpus, *DOCUMENTS[name])
        rows.save(path.with_suffix(".unfinished"))
        path.with_suffix(".unfinished").rename(path)
    return AllWrites.load(path).every(EVERY)


def site_writes(rows: AllWrites, target: Any) -> SiteWrites:
    """The writes of all sites."""
    weights = [target.model.blocks[layer].attn.W_O.detach().float() for layer in range(int(target.model.cfg.n_layers))]
    return SiteWrites(rows, [weight.flatten(0, 1).T.contiguous() for weight in weights])


def main() -> None:
    """Fit and save."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.smollm2.fit")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--keep", type=Path, required=True, help="folder of captured writes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the oracle")
    parser.add_argument("--log", type=Path, help="progress, a line a component")
    parser.add_argument("--commit", default="", help="noted with the oracle")
    args = parser.parse_args()
    WordOracle.check_saving(args.out)
    target, begun = load_target("smollm2"), time.monotonic()
    rows = captured(args.corpus, args.keep, "train")
    counts = corpus_counts(target.tokenizer, args.corpus, int(target.model.cfg.d_vocab))
    config = FitConfig()

    def log(what: str, done: int, total: int) -> None:
        if args.log is not None:
            with args.log.open("a", encoding="utf-8") as file:
                file.write(f"{time.monotonic() - begun:.0f} s: {what} {done} of {total}\n")

    with listening(log):
        writes, keep = site_writes(rows, target), args.keep / "fitted"
        oracle = WordOracle.fitted(target.model, target.tokenizer, writes, counts, config, "smollm2", keep)
    oracle.made = {
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct", "read in": "bfloat16",
        "documents a kind": DOCUMENTS["train"][2],
        "rows": len(rows.document), "fit": str(config), "commit": args.commit,
        "seconds": round(time.monotonic() - begun),
        "corpus": "make corpus, training documents only", "torch": str(torch.__version__), "seed": 0,
        "fingerprint": fingerprint(target.model),
    }  # fmt: skip
    oracle.save_pretrained(args.out, tables=False)


if __name__ == "__main__":
    main()
