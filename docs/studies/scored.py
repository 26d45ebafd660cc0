"""The command line of studies on SmolLM2: score into stored rows, or print the tables of what is stored.

A study of several seeds stores them in one file: its tables pool them, and :func:`by_seed` shows each.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.studies.lines import read_lines, table, write_lines
from tl_nla.data.progress import progress_bar
from tl_nla.smollm2 import load_smollm2


def study_parser(study: str, corpus: bool = True, seeds: bool = False) -> argparse.ArgumentParser:
    """The options that these studies share.

    Args:
        study: name of its folder, which has ``rows/rows.jsonl``.
        corpus: whether it reads texts of ``make corpus``.
        seeds: whether what it draws depends on a seed.
    """
    parser = argparse.ArgumentParser(prog=f"python -m docs.studies {study}")
    if corpus:
        parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of `make corpus`")
    if seeds:
        told = "of what is drawn; stored rows of other seeds stay"
        parser.add_argument("--seed", type=int, default=0, help=told)
    rows = Path(__file__).parent / study / "rows" / "rows.jsonl"
    parser.add_argument("--rows", type=Path, default=rows, help="scores, one JSON object a line")
    parser.add_argument("--table", action="store_true", help="print the tables of the stored rows, and do nothing else")
    return parser


def run_study(
    args: argparse.Namespace, score: Callable[[Any, argparse.Namespace], None], tables: Callable[[list[Any]], str]
) -> None:
    """Score with SmolLM2 unless only the tables are asked for, and print the tables.

    Args:
        args: of :func:`study_parser`.
        score: given SmolLM2 and the arguments, writes the rows.
        tables: of the rows, in Markdown.
    """
    if not args.table:
        smol = load_smollm2(dtype="bfloat16")
        with progress_bar():
            score(smol, args)
    sys.stdout.write(tables(read_lines(args.rows)))


def rows_of_seed(path: Path, seed: int) -> list[dict[str, Any]]:
    """Stored rows of one seed; none where there is no file."""
    return [row for row in read_lines(path) if row["seed"] == seed] if path.is_file() else []


def keep_seed(path: Path, seed: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store the rows of one seed in place of what it had; those of other seeds stay."""
    others = [row for row in read_lines(path) if row["seed"] != seed] if path.is_file() else []
    write_lines(path, sorted([*others, *({"seed": seed, **row} for row in rows)], key=lambda row: int(row["seed"])))


def by_seed(rows: Sequence[dict[str, Any]], numbers: Mapping[str, Callable[[Sequence[dict[str, Any]]], float]]) -> str:
    """A table of the most important numbers, seed by seed, with the largest difference; nothing for a single seed.

    Args:
        rows: of all seeds.
        numbers: by name, what makes a number of the rows of one seed.
    """
    seeds = sorted({row["seed"] for row in rows})
    if len(seeds) < 2:
        return ""
    lines = []
    for name, number in numbers.items():
        found = [number([row for row in rows if row["seed"] == seed]) for seed in seeds]
        lines.append([name, *(f"{value:.2f}" for value in found), f"{max(found) - min(found):.2f}"])
    return f"**seed by seed**\n\n{table(['number', *(f'seed {seed}' for seed in seeds), 'largest difference'], lines)}"
