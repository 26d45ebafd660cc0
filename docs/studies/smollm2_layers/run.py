"""Does the NLA of layer 16 read other layers of SmolLM2, and does it see what is different between two of them?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_layers --corpus corpus --rows rows.jsonl``
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from docs.studies.lines import write_lines
from docs.studies.real_states import drawn_layers, held_out_layers
from docs.studies.scored import run_study, study_parser
from docs.studies.smollm2_layers.score import Layers, explained, layer_rows
from docs.studies.smollm2_layers.table import as_markdown

LAYERS = (12, 14, 16, 18, 20)


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = study_parser("smollm2_layers")
    parser.add_argument("--documents", type=int, nargs=2, default=(150, 12), help="of training, held-out ones")
    run_study(parser.parse_args(arguments), _score, as_markdown)


@torch.no_grad()
def _score(smol: Any, args: argparse.Namespace) -> None:
    states = held_out_layers(smol, args.corpus, LAYERS, args.documents[1], 3)
    layers = Layers.of(states, drawn_layers(smol, args.corpus, LAYERS, args.documents[0], 12).acts)
    write_lines(args.rows, layer_rows(smol.nla, layers, explained(smol.nla, layers)))
