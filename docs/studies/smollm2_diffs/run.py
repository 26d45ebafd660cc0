"""Do two explanations, one below and one above some blocks, tell what the blocks wrote?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_diffs --corpus corpus --rows rows.jsonl``
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from docs.studies.real_states import OWN, drawn_layers, held_out_layers
from docs.studies.scored import keep_seed, run_study, study_parser
from docs.studies.smollm2_diffs.arms import HIGH, LOW, explain_both
from docs.studies.smollm2_diffs.score import write_rows
from docs.studies.smollm2_diffs.table import as_markdown


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = study_parser("smollm2_diffs", seeds=True)
    parser.add_argument("--documents", type=int, nargs=2, default=(150, 10), help="of training, held-out ones")
    run_study(parser.parse_args(arguments), _score, as_markdown)


@torch.no_grad()
def _score(smol: Any, args: argparse.Namespace) -> None:
    states = held_out_layers(smol, args.corpus, range(LOW, HIGH + 1), args.documents[1], 10, args.seed)
    train = drawn_layers(smol, args.corpus, (LOW, OWN, HIGH), args.documents[0], 12, seed=args.seed).acts
    keep_seed(args.rows, args.seed, write_rows(smol, states, train, explain_both(smol.nla, states, train, args.seed)))
