"""Study ``tiny``: remakes the embedded model, its pair and its oracle from their seeds, and the studies' row scores."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from docs.studies import oracle_rows
from docs.studies.contributions import run as contributions
from docs.studies.contributions.train import QUICK as QUICK_RECOVERIES
from docs.studies.contributions.train import WordsOnlyConfig, rebuild_recoveries
from docs.studies.heads.plateau import QUICK_PLATEAU, PlateauConfig, train_plateau
from docs.studies.heads.untrained import WITHOUT_HEADS, train_without_heads
from docs.studies.nla.run import STORED_ROWS
from docs.studies.tiny.oracle import rebuild_oracle
from docs.studies.tiny.rebuild import RebuildConfig, load_rebuilt, rebuild_nla, rebuild_target
from lightning_modules.data.oracle_config import QUICK, OracleConfig
from tl_nla.cli.options import OneLineParser, output_folder
from tl_nla.errors import unknown
from tl_nla.storyworld.tiny import WEIGHTS

_PARTS = ("target", "nla", "seeds", "oracle", "untrained", "plateau", "contributions")
_QUICK = RebuildConfig(target_steps=3, documents=60, positions=3, reconstructor_steps=2, verbalizer_steps=2)


def main(arguments: Sequence[str]) -> None:
    """Train the parts in order; each is written when it is done."""
    args = _parser().parse_args(arguments)
    for part in args.parts:
        if part not in _PARTS:
            raise unknown("part", part, _PARTS)
    torch.set_num_threads(1)
    folder, config = args.out or WEIGHTS, _QUICK if args.quick else RebuildConfig()
    if "target" in args.parts:
        rebuild_target(folder / "target", config)
    seeds = [0] * ("nla" in args.parts) + [1, 2] * ("seeds" in args.parts)
    for seed in seeds:
        rebuild_nla(folder, config, seed, args.out or STORED_ROWS.parent)
    if {"oracle", "untrained", "plateau"} & set(args.parts):
        _oracles(args, folder)
    if "contributions" in args.parts:
        recoveries = QUICK_RECOVERIES if args.quick else WordsOnlyConfig()
        rebuild_recoveries(config=recoveries, folder=folder, rows=args.out or contributions.STORED.parent)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m docs.studies tiny")
    parser.add_argument(
        "--out", type=output_folder, default=None, metavar="DIR",
        help="folder for everything (default: weights into the package, row scores into their studies)",
    )  # fmt: skip
    parser.add_argument(
        "--parts", nargs="+", default=["target", "nla"], metavar="PART",
        help="target. Nla: seed 0 and its cat reader. Seeds: row scores of seeds 1 and 2. "
        "Oracle: with the readers of its controls. Untrained: an oracle that a quarter of the heads is kept from. "
        "Plateau: a network on the model's own run on raw context, with words and without. All three for each of "
        "--seeds. Contributions: words-only recovery, three seeds",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N",
        help="seeds of oracle, untrained and plateau: of 0 the oracle's weights are kept, of each the row scores "
        "(default: 0 1 2)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=output_folder, default=None, metavar="DIR",
        help="keep trained pieces of oracles and readers here; the same command goes on from them when interrupted",
    )  # fmt: skip
    parser.add_argument("--precision", default="highest", metavar="P", help="of matrix products: highest, high, medium")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="what oracles are trained on: cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything: a test of the path")
    return parser


def _oracles(args: argparse.Namespace, folder: Path) -> None:
    target, rows = load_rebuilt(folder / "target"), args.out or oracle_rows.FOLDER
    how: dict[str, Any] = {"precision": args.precision, "device": args.device}
    usual = replace(QUICK if args.quick else OracleConfig(), **how)
    without = replace(QUICK if args.quick else WITHOUT_HEADS, **how)
    for seed in args.seeds if "oracle" in args.parts else ():
        rebuild_oracle(folder, usual, seed, target, args.keep, rows)
    for seed in args.seeds if "untrained" in args.parts else ():
        train_without_heads(folder, without, seed, target, args.keep, rows)
    for seed in args.seeds if "plateau" in args.parts else ():
        network = QUICK_PLATEAU if args.quick else PlateauConfig()
        train_plateau(folder, usual, seed, target, args.keep, network, rows)
