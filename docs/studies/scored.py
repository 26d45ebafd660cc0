"""The command line of studies on SmolLM2: score into stored rows, or print the tables of what is stored."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docs.studies.lines import read_lines
from tl_nla.data.progress import progress_bar
from tl_nla.smollm2 import load_smollm2


def study_parser(study: str, corpus: bool = True) -> argparse.ArgumentParser:
    """The options that these studies share.

    Args:
        study: name of its folder, which has ``rows/rows.jsonl``.
        corpus: whether it reads texts of ``make corpus``.
    """
    parser = argparse.ArgumentParser(prog=f"python -m docs.studies {study}")
    if corpus:
        parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of `make corpus`")
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
