"""Which weights the shipped parts accept, and how well they do there: SmolLM2's, changed in several ways.

``python -m docs.studies.smollm2.agreement --keep writes --rows docs/studies/smollm2/rows/agreement.jsonl``
"""

import argparse
import json
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2.capture import read_corpus
from docs.studies.smollm2.effects import cut
from docs.studies.smollm2.fit import site_writes
from docs.studies.smollm2.score import kind_of
from docs.studies.smollm2.table import read_rows
from docs.studies.smollm2.writes import SiteWrites, capture_all
from docs.studies.smollm2_nla.score import held_out
from tl_nla.benchmark.bootstrap import fve_interval
from tl_nla.data.progress import told
from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.saving import save_causal_lm
from tl_nla.smollm2 import find_weights, load_smollm2

DOCUMENTS, EVERY, LAYERS, HEADS, WORDS = (14, 16), 8, (3, 9, 15, 21, 27), (0, 4, 8), 16
"""Documents of each kind of text, one of so many of their positions, and what is explained there, in how many words."""
PIECES, POSITIONS, CAP = 12, 3, 40
"""Pieces of text and states of each for the NLA, and the longest explanation."""
BLOCK, LEVELS, EMBEDDING_LEVELS = 32, 15, 127
"""Of the package's file: numbers that share a step, steps between the lowest and the highest one (Q4_1), and steps from
zero to the largest embedding (Q8_0)."""
BATCH, STEPS = 4, 6
_UNCHANGED, _NOISE = "as in the package", "noise of half a step"


@torch.no_grad()
def half_a_step(model: Any, seed: int = 0) -> None:
    """Add noise to all quantised weights, uniform within half a step of their block: what rounding may have hidden."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        blocks = weight.view(-1, BLOCK)
        if "embed" in name:
            step = blocks.abs().amax(1, keepdim=True) / EMBEDDING_LEVELS
        else:
            step = (blocks.amax(1, keepdim=True) - blocks.amin(1, keepdim=True)) / LEVELS
        blocks += step * (torch.rand(blocks.shape, generator=generator) - 0.5)


@torch.no_grad()
def shuffled(model: Any, seed: int = 0) -> None:
    """Another model of the same shape: the numbers of every matrix in another order."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view_as(weight))


def tuned(rate: float, corpus: Path, tokenizer: Any) -> Callable[[Any], None]:
    """A few steps of Adam on training documents."""

    def change(model: Any) -> None:
        texts = [text for _, _, text in read_corpus(corpus / "train.jsonl", STEPS)]
        rows = torch.cat([ids for _, ids in cut(tokenizer, texts)])
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        for (number,) in told([[number] for number in range(STEPS)], "training a little"):
            ids = rows[order[number * BATCH : (number + 1) * BATCH]]
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return change


def cases(corpus: Path, tokenizer: Any) -> dict[str, tuple[Callable[[Any], None], torch.dtype]]:
    """What is done to the weights, and the precision that they are stored in."""
    return {
        _UNCHANGED: (lambda _: None, torch.float32),
        _NOISE: (half_a_step, torch.float32),
        "rounded to bfloat16": (lambda _: None, torch.bfloat16),
        "another model of this shape": (shuffled, torch.float32),
        "trained a little, rate 1e-5": (tuned(1e-5, corpus, tokenizer), torch.float32),
        "trained a little, rate 1e-3": (tuned(1e-3, corpus, tokenizer), torch.float32),
    }


def look(folder: Path, corpus: Path, scored: bool) -> dict[str, Any]:
    """What the shipped parts say of a folder, and how much their words give back there."""
    smol = load_smollm2(folder, dtype="float32")
    found: dict[str, Any] = {}
    for name in ("oracle", "nla"):
        try:
            part = getattr(smol, name)
        except InputError as error:
            found[name] = {"accepted": False, "says": str(error)}
            continue
        told_by = part.made if name == "oracle" else part.provenance
        found[name] = {"accepted": True, "agreement": round(told_by["agreement"], 4)}
    if scored and all(part["accepted"] for part in found.values()):
        rows = capture_all(load_causal_lm(folder, torch.float32).eval(), smol.tokenizer, corpus, "held_out", *DOCUMENTS)
        found["scores"] = [*of_oracle(smol.oracle, site_writes(rows.every(EVERY), smol)), of_nla(smol, corpus)]
    return found


def of_oracle(oracle: Any, held: SiteWrites) -> Iterator[dict[str, Any]]:
    """FVE of the oracle's words against each component's own mean, by kind of component."""
    errors, bases = defaultdict(list), defaultdict(list)
    sites = [f"blocks.{layer}{part}" for layer in LAYERS
             for part in (*(f".attn.head.{head}" for head in HEADS), ".attn", ".mlp", "")]  # fmt: skip
    for (site,) in told([[site] for site in sites], "reading the oracle's words"):
        before, write = held[site]
        truth, mean = normalise(write), oracle.code.mean[oracle.code.index(site)]
        texts = oracle.explain(write, before, words=WORDS, sites=[site] * len(write))
        errors[kind_of(site)].append((truth - normalise(oracle.reconstruct(texts))).square().sum(1))
        bases[kind_of(site)].append((truth - mean).square().sum(1))
    for kind, parts in errors.items():
        yield _scored(kind, torch.cat(parts), torch.cat(bases[kind]), held.rows.document.repeat(len(parts)))


def of_nla(smol: Any, corpus: Path) -> dict[str, Any]:
    """FVE of the NLA's greedy words against the mean of its training states."""
    held = held_out(smol.model, smol.tokenizer, smol.nla.layer, corpus, PIECES, POSITIONS)
    goal = normalise(held.states.acts)
    read = smol.nla.reconstruct(smol.nla.verbalize(held.states.acts, max_new_tokens=CAP, batch_size=64), 64)
    bases = (goal - smol.nla.mean).square().sum(1)
    return _scored("state", (goal - normalise(read)).square().sum(1), bases, held.states.document)


def _scored(kind: str, errors: Tensor, bases: Tensor, documents: Tensor) -> dict[str, Any]:
    drawn = torch.Generator().manual_seed(0)
    found = fve_interval(errors, bases, documents, generator=drawn, resamples=500)
    return {"kind": kind, "fve": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4),
            "n": len(errors)}  # fmt: skip


def main() -> None:
    """Look at every case that has no row yet."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.smollm2.agreement")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--keep", type=Path, help="changed weights are written here, one folder at a time")
    parser.add_argument("--rows", type=Path, required=True, help="what was found, one JSON object a line")
    parser.add_argument("--table", action="store_true", help="print the table of what is stored only")
    args = parser.parse_args()
    if args.table:
        sys.stdout.write(as_markdown(read_rows(args.rows)))
        return
    source = find_weights()
    tokenizer, done = load_tokenizer(source), {row["case"] for row in read_rows(args.rows)}
    for case, (change, dtype) in cases(args.corpus, tokenizer).items():
        if case in done:
            continue
        model, folder = load_causal_lm(source, torch.float32), args.keep / "changed"
        change(model)
        shutil.rmtree(folder, ignore_errors=True)
        save_causal_lm(model.eval(), tokenizer, folder, dtype)
        del model
        row = {"case": case, **look(folder, args.corpus, case in (_UNCHANGED, _NOISE))}
        shutil.rmtree(folder)
        with args.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def as_markdown(rows: list[Any]) -> str:
    """What the parts say of each case, and what their words give back."""
    kinds = {"head": "heads", "attn": "attentions", "mlp": "MLPs", "block": "blocks", "state": "states, NLA"}
    lines = ["| weights | oracle | NLA | " + " | ".join(kinds.values()) + " |", "|---" * (3 + len(kinds)) + "|"]
    for row in rows:
        said = [_said(row[part]) for part in ("oracle", "nla")]
        scores = {one["kind"]: f"{one['fve']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
                  for one in row.get("scores", ())}  # fmt: skip
        lines.append(f"| {row['case']} | " + " | ".join([*said, *(scores.get(kind, "") for kind in kinds)]) + " |")
    return "\n".join(lines) + "\n"


def _said(found: dict[str, Any]) -> str:
    if found["accepted"]:
        return f"{found['agreement']:.3f}"
    told_by = re.search(r"agree with it by (\S+) only", found["says"])
    return f"refused, {told_by[1]}" if told_by else "refused"


if __name__ == "__main__":
    main()
