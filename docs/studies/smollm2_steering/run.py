"""Does a broad rewrite of every token's explanation steer SmolLM2, as well as CAA or a prompt edit do?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_steering --rows rows.jsonl``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from docs.studies.lines import read_lines
from docs.studies.smollm2_steering.score import read_all, score_prompts
from docs.studies.smollm2_steering.table import as_markdown
from tl_nla.data.progress import progress_bar
from tl_nla.smollm2 import load_smollm2

ROWS = Path(__file__).parent / "rows" / "rows.jsonl"


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies smollm2_steering")
    parser.add_argument("--rows", type=Path, default=ROWS, help="scores, one JSON object a line")
    parser.add_argument("--table", action="store_true", help="print the tables of the stored rows, and do nothing else")
    parser.add_argument("--prompts", type=int, default=13, help="how many are scored")
    args = parser.parse_args(arguments)
    if not args.table:
        smol = load_smollm2(dtype="bfloat16")
        with progress_bar(), torch.no_grad():
            score_prompts(smol, smol.nla, args.rows, read_all(smol, smol.nla), args.prompts)
    sys.stdout.write(as_markdown(read_lines(args.rows)))
