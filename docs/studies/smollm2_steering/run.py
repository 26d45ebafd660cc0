"""Does a broad rewrite of every token's explanation steer SmolLM2, as well as CAA or a prompt edit do?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_steering --rows rows.jsonl``
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from docs.studies.scored import run_study, study_parser
from docs.studies.smollm2_steering.prompts import DRAW
from docs.studies.smollm2_steering.score import score_prompts
from docs.studies.smollm2_steering.table import as_markdown


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = study_parser("smollm2_steering", corpus=False, seeds=True)
    parser.add_argument("--prompts", type=int, default=DRAW, help="how many of the seed's are scored")
    run_study(parser.parse_args(arguments), _score, as_markdown)


@torch.no_grad()
def _score(smol: Any, args: argparse.Namespace) -> None:
    score_prompts(smol, smol.nla, args.rows, args.seed, args.prompts)
