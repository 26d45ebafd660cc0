"""Do two explanations, one below and one above some blocks, tell what the blocks wrote?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_diffs --corpus corpus --rows rows.jsonl``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from docs.studies.lines import read_lines, write_lines
from docs.studies.real_states import drawn_layers, held_out_layers
from docs.studies.smollm2_diffs.arms import HIGH, LOW, OWN, explain_both
from docs.studies.smollm2_diffs.score import write_rows
from docs.studies.smollm2_diffs.table import as_markdown
from tl_nla.data.progress import progress_bar
from tl_nla.smollm2 import load_smollm2

ROWS = Path(__file__).parent / "rows" / "rows.jsonl"


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies smollm2_diffs")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of `make corpus`")
    parser.add_argument("--rows", type=Path, default=ROWS, help="scores, one JSON object a line")
    parser.add_argument("--table", action="store_true", help="print the tables of the stored rows, and do nothing else")
    parser.add_argument("--documents", type=int, nargs=2, default=(150, 10), help="of training, held-out ones")
    args = parser.parse_args(arguments)
    if not args.table:
        smol = load_smollm2(dtype="bfloat16")
        nla = smol.nla
        with progress_bar(), torch.no_grad():
            states = held_out_layers(smol, args.corpus, range(LOW, HIGH + 1), args.documents[1], 10)
            train = drawn_layers(smol, args.corpus, (LOW, OWN, HIGH), args.documents[0], 12).acts
            write_lines(args.rows, write_rows(smol, states, train, explain_both(nla, states, train)))
    sys.stdout.write(as_markdown(read_lines(args.rows)))
