"""How much of the next-token prediction is left when every write of SmolLM2 is rebuilt from its words alone.

``python -m docs.studies.smollm2.recovery --keep writes --rows docs/studies/smollm2/rows/recovery.jsonl``
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from docs.studies.smollm2.fit import captured, site_writes
from docs.studies.smollm2.score import SIDES, smoother, squeezed_context
from docs.studies.smollm2.table import read_rows
from docs.studies.smollm2.writes import SiteWrites
from tl_nla.benchmark.bootstrap import fve_interval
from tl_nla.benchmark.words_only import divergence, output_logits
from tl_nla.data.progress import told
from tl_nla.errors import InputError
from tl_nla.model.targets import load_target

STEPS = (3, 9, 15, 21, 27, 30)
"""Numbers of layers told at which the prediction is read."""
_BATCH = 180


@dataclass(frozen=True)
class Recovery:
    """Training and held-out writes, and what words gave back of the latter."""

    target: Any
    train: SiteWrites
    held: SiteWrites
    kept: Path
    every: int
    side: str = SIDES[0]

    @property
    def layers(self) -> range:
        """All layers."""
        return range(len(self.held.out))


def arms(sides: Recovery) -> dict[str, list[Tensor]]:
    """Each arm's attention and MLP, summed, layer by layer: ``[rows, d_model]`` each."""
    context = smoother(*squeezed_context(sides.target.model, sides.train, sides.held))
    found: dict[str, list[Tensor]] = defaultdict(list)
    for (layer,) in told([[layer] for layer in sides.layers], "adding up layers"):
        attn, mlp = (f"blocks.{layer}.{part}" for part in ("attn", "mlp"))
        true = {site: sides.held[site][1] for site in (attn, mlp)}
        found["exact"].append(true[attn] + true[mlp])
        said = read_kept(sides.kept / f"rebuilt-{sides.side}-{sides.every}-{layer}.safetensors")
        heads, mlps = (said.pop(f"{kind}s, 16 words") for kind in ("head", "mlp"))
        found["heads in 16 words, MLPs exact"].append(heads + true[mlp])
        found["MLPs in 16 words, heads exact"].append(true[attn] + mlps)
        for arm, value in said.items():
            found[arm].append(value)
        found["context, 16 tokens"].append(_predicted(sides, attn, context) + _predicted(sides, mlp, context))
    return dict(found)


def read_kept(path: Path) -> dict[str, Tensor]:
    """What :mod:`docs.studies.smollm2.score` read back of a layer's writes.

    Raises:
        InputError: when it was not run on these rows.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; run docs.studies.smollm2.score with the same options first")
    return load_file(path)


def _predicted(sides: Recovery, site: str, weights: Tensor) -> Tensor:
    wanted = sides.train[site][1]
    return wanted.mean(0) + weights @ (wanted - wanted.mean(0))


@torch.no_grad()
def rows_of(sides: Recovery, seen: Tensor) -> Iterator[dict[str, Any]]:
    """Scores of every arm at some numbers of layers told.

    Args:
        sides: the writes.
        seen: token ids before each position, its own first, for the model's own run on them.
    """
    model, document = sides.target.model, sides.held.rows.document
    embedded = sides.held["blocks.0.attn"][0]
    mean = [sum(sides.train[f"blocks.{layer}.{part}"][1].mean(0) for part in ("attn", "mlp")) for layer in sides.layers]
    found = arms(sides)
    clean = _logits(model, embedded + sum(found["exact"]))
    usual, _ = _compared(model, clean, embedded + sum(mean))
    yield {"arm": "mean writes", "layers": 0, "kl": float(usual.mean()), "n": len(usual)}
    for arm, parts in found.items():
        for layers in STEPS:
            state = embedded + sum(parts[:layers]) + sum(mean[layers:])
            yield _scored(arm, layers, _compared(model, clean, state), usual, document)
    begin = torch.full((len(seen), 1), int(sides.target.tokenizer.bos_token_id))
    ids = torch.cat([begin, seen.flip(1)], 1)
    alone = torch.cat([model(rows)[:, -1].float() for rows in ids.split(_BATCH)])
    yield _scored("the model on 16 tokens", 30, _distance(clean, alone), usual, document)


def _logits(model: Any, state: Tensor) -> Tensor:
    return torch.cat([output_logits(model, rows) for rows in state.split(_BATCH)])


def _compared(model: Any, clean: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    parts = [_distance(known, output_logits(model, rows))
             for known, rows in zip(clean.split(_BATCH), state.split(_BATCH), strict=True)]  # fmt: skip
    return torch.cat([kl for kl, _ in parts]), torch.cat([same for _, same in parts])


def _distance(clean: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    return divergence(clean, changed), clean.argmax(-1) == changed.argmax(-1)


def _scored(arm: str, layers: int, found: tuple[Tensor, Tensor], usual: Tensor, document: Tensor) -> dict[str, Any]:
    kl, same = found
    one = fve_interval(kl, usual, document, generator=torch.Generator().manual_seed(0))
    return {"arm": arm, "layers": layers, "recovered": one.value, "low": one.low, "high": one.high,
            "kl": float(kl.mean()), "same": float(same.float().mean()), "n": one.n}  # fmt: skip


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """KL recovered by arm and number of layers told."""
    lines = ["| arm | " + " | ".join(f"{step} layers" for step in STEPS) + " | same likeliest token |",
             "|---" * (len(STEPS) + 2) + "|"]  # fmt: skip
    for arm in dict.fromkeys(row["arm"] for row in rows if row["layers"]):
        own = {row["layers"]: row for row in rows if row["arm"] == arm}
        cells = [f"{row['recovered']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" if (row := own.get(step)) else ""
                 for step in STEPS]  # fmt: skip
        lines.append(f"| {arm} | " + " | ".join(cells) + f" | {own[30]['same']:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Score all arms and write their rows."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.smollm2.recovery")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--keep", type=Path, required=True, help="folder of captured writes")
    parser.add_argument("--rows", type=Path, required=True, help="scores, one JSON object a line")
    parser.add_argument("--every", type=int, default=16, help="one of so many held-out rows, as scored")
    parser.add_argument("--side", choices=SIDES, default=SIDES[0], help="which documents, as scored")
    parser.add_argument("--table", action="store_true", help="print the table of the stored scores only")
    args = parser.parse_args()
    if args.table:
        sys.stdout.write(as_markdown(read_rows(args.rows)))
        return
    target = load_target("smollm2")
    train = site_writes(captured(args.corpus, args.keep, "train"), target)
    held = site_writes(captured(args.corpus, args.keep, args.side).every(args.every), target)
    sides = Recovery(target, train, held, args.keep, args.every, args.side)
    found = [json.dumps(row) + "\n" for row in rows_of(sides, held.rows.context[:, :16])]
    args.rows.write_text("".join(found), encoding="utf-8")


if __name__ == "__main__":
    main()
