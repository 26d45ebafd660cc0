"""How much of the next-token prediction is left when every write of SmolLM2 is rebuilt from its words alone.

``python -m docs.studies.smollm2.recovery --keep writes --rows docs/studies/smollm2/rows/recovery.jsonl``
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2.fit import captured, site_writes
from docs.studies.smollm2.score import permuted, smoother, squeezed_context
from docs.studies.smollm2.table import read_rows
from docs.studies.smollm2.writes import SiteWrites
from tl_nla.benchmark.bootstrap import fve_interval
from tl_nla.benchmark.words_only import divergence, output_logits
from tl_nla.data.progress import told
from tl_nla.metrics import normalise
from tl_nla.model.targets import load_target
from tl_nla.smollm2.oracle import shipped_oracle

STEPS = (3, 9, 15, 21, 27, 30)
"""Numbers of layers told at which the prediction is read."""
LENGTHS, MOST = (4, 8, 16), 16
_BATCH = 180
_Rebuild = Callable[[str], Tensor]


@dataclass(frozen=True)
class Recovery:
    """Training and held-out writes, and what reads them."""

    target: Any
    oracle: Any
    train: SiteWrites
    held: SiteWrites

    @property
    def layers(self) -> range:
        """All layers."""
        return range(len(self.held.out))

    def attention(self, layer: int) -> list[str]:
        """Sites of a layer's heads."""
        return [f"blocks.{layer}.attn.head.{head}" for head in range(self.held.out[layer].shape[1] // self.held.width)]


def arms(sides: Recovery) -> Iterator[tuple[str, list[Tensor]]]:
    """Each arm's attention and MLP, summed, layer by layer: ``[rows, d_model]`` each."""
    context = smoother(*squeezed_context(sides.target.model, sides.train, sides.held))
    exact: list[Tensor] = []
    words: dict[str, list[Tensor]] = {}
    for (layer,) in told([[layer] for layer in sides.layers], "rebuilding layers from words"):
        attn, mlp, heads = f"blocks.{layer}.attn", f"blocks.{layer}.mlp", sides.attention(layer)
        true = {site: sides.held[site][1] for site in (attn, mlp)}
        exact.append(true[attn] + true[mlp])
        said = {site: _explained(sides, site) for site in (*heads, mlp, attn)}

        def rebuilt(change: _Rebuild, sites: list[str]) -> Tensor:
            return torch.stack([change(site) for site in sites]).sum(0)

        for count in LENGTHS:
            words.setdefault(f"words, {count} each", []).append(
                rebuilt(lambda site: sides.oracle.reconstruct(said[site][count]), [*heads, mlp])  # noqa: B023
            )
        full: _Rebuild = lambda site: sides.oracle.reconstruct(said[site][MOST])  # noqa: B023, E731
        for arm, value in {
            "attention by its own 16 words": full(attn) + full(mlp),
            "heads in words, MLPs exact": rebuilt(full, heads) + true[mlp],
            "MLPs in words, heads exact": true[attn] + full(mlp),
            "shuffled": rebuilt(lambda site: sides.oracle.reconstruct(_rolled(said[site][MOST])), [*heads, mlp]),  # noqa: B023
            "permuted": rebuilt(
                lambda site: sides.oracle.reconstruct(permuted(said[site][MOST], sides.oracle.code.text)),  # noqa: B023
                [*heads, mlp],
            ),
            "context, 16 tokens": rebuilt(lambda site: _predicted(sides, site, context), [attn, mlp]),
            "probe of the state": rebuilt(lambda site: _predicted(sides, site, _from_state(sides, site)), [attn, mlp]),
        }.items():
            words.setdefault(arm, []).append(value)
    yield "exact", exact
    yield from words.items()


def _explained(sides: Recovery, site: str) -> dict[int, list[str]]:
    before, write = sides.held[site]
    return {count: sides.oracle.explain(write, before, words=count, sites=[site] * len(write)) for count in LENGTHS}


def _rolled(texts: list[str]) -> list[str]:
    """The texts of other documents."""
    half = len(texts) // 2
    return texts[half:] + texts[:half]


def _from_state(sides: Recovery, site: str) -> Tensor:
    return smoother(*(normalise(side[site][0]) for side in (sides.train, sides.held)))


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
    found = dict(arms(sides))
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
    parser.add_argument("--every", type=int, default=6, help="one of so many held-out rows is told")
    parser.add_argument("--table", action="store_true", help="print the table of the stored scores only")
    args = parser.parse_args()
    if args.table:
        sys.stdout.write(as_markdown(read_rows(args.rows)))
        return
    target = load_target("smollm2")
    train = site_writes(captured(args.corpus, args.keep, "train"), target)
    held = site_writes(captured(args.corpus, args.keep, "fresh").every(args.every), target)
    sides = Recovery(target, shipped_oracle(target.model), train, held)
    found = [json.dumps(row) + "\n" for row in rows_of(sides, held.rows.context[:, :16])]
    args.rows.write_text("".join(found), encoding="utf-8")


if __name__ == "__main__":
    main()
