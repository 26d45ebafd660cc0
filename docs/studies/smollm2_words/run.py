"""How many words of which kind tell SmolLM2's writes, and how much of it depends on the fit.

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_words --corpus corpus --keep writes``
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from docs.studies.lines import read_lines, write_lines
from docs.studies.smollm2_words import component, curve, larger, own_run, refits, unseen
from docs.studies.smollm2_words.figure import draw
from docs.studies.smollm2_words.sides import Sides
from docs.studies.smollm2_words.table import as_markdown
from tl_nla.benchmark.figures import check_figure
from tl_nla.data.progress import progress_bar

ROWS = Path(__file__).parent / "rows" / "rows.jsonl"
PARTS: dict[str, tuple[Callable[[Sides], Iterator[dict[str, Any]]], int, str]] = {
    "curve": (curve.rows, 2, "fresh"), "draws": (refits.draw_rows, 4, "fresh"), "unseen": (unseen.rows, 4, "fresh"),
    "component": (component.rows, 4, "later"), "own_run": (own_run.rows, 16, "fresh"),
    "more": (refits.more_rows, 4, "fresh"), "larger": (larger.rows, 4, "later"),
}  # fmt: skip
"""Each part, and which held-out rows it uses: one of so many of a side. How many words MLPs and blocks choose from was
settled on ``fresh``, so they are scored on ``later``."""


def main(arguments: Sequence[str]) -> None:
    """Measure, or print the tables of stored rows."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies smollm2_words")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of `make corpus`")
    parser.add_argument("--keep", type=Path, default=Path("writes"), help="folder of captured writes")
    parser.add_argument("--rows", type=Path, default=ROWS, help="scores, one JSON object a line")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured")
    parser.add_argument("--table", action="store_true", help="print the tables of the stored rows, and do nothing else")
    parser.add_argument("--figure", metavar="FILE", help="draw the curves of the stored rows, and do nothing else")
    args = parser.parse_args(arguments)
    if args.figure is not None:
        check_figure(args.figure)
        draw(read_lines(args.rows), args.figure)
        return
    if not args.table:
        with progress_bar():
            for part in args.parts:
                measure, every, side = PARTS[part]
                found = list(measure(Sides.load(args.corpus, args.keep, every, side)))
                stored = read_lines(args.rows) if args.rows.is_file() else []
                write_lines(args.rows, [row for row in stored if row["part"] != part] + found)
    sys.stdout.write(as_markdown(read_lines(args.rows)))
