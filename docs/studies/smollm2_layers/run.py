"""Does the NLA of layer 16 read other layers of SmolLM2, and does it see what is different between two of them?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_layers --corpus corpus --rows rows.jsonl``
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from docs.studies.real_states import drawn_layers, held_out_layers
from docs.studies.scored import keep_seed, run_study, study_parser
from docs.studies.smollm2_layers.reinforced import reinforced_nla
from docs.studies.smollm2_layers.score import Layers, explained, explained_by, layer_rows
from docs.studies.smollm2_layers.table import as_markdown

LAYERS = (12, 14, 16, 18, 20)
OTHER = 20


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = study_parser("smollm2_layers", seeds=True)
    parser.add_argument("--documents", type=int, nargs=2, default=(150, 24), help="of training, held-out ones")
    parser.add_argument("--steps", type=int, default=40, help=f"of learning on layer {OTHER}; 0 leaves it out")
    parser.add_argument("--keep", type=Path, default=Path("runs/smollm2_layers"), help="folder of that training")
    run_study(parser.parse_args(arguments), _score, as_markdown)


def _score(smol: Any, args: argparse.Namespace) -> None:
    with torch.no_grad():
        states = held_out_layers(smol, args.corpus, LAYERS, args.documents[1], 3, args.seed)
        train = drawn_layers(smol, args.corpus, LAYERS, args.documents[0], 12, seed=args.seed).acts
        layers = Layers.of(states, train)
        said = explained(smol.nla, layers)
    trained = reinforced_nla(train[OTHER], args.steps, args.keep) if args.steps else None
    with torch.no_grad():
        other = {} if trained is None else {OTHER: explained_by(trained, states.acts[OTHER])}
        keep_seed(args.rows, args.seed, layer_rows(smol.nla, layers, said, other))
