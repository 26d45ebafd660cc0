"""Does the NLA of layer 16 read other layers of SmolLM2, and does it see what is different between two of them?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_layers --corpus corpus --rows rows.jsonl``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from docs.studies.lines import read_lines, write_lines
from docs.studies.real_states import drawn_layers, held_out_layers
from docs.studies.smollm2_layers.reinforced import reinforced_nla
from docs.studies.smollm2_layers.score import Layers, explained, explained_by, layer_rows
from docs.studies.smollm2_layers.table import as_markdown
from tl_nla.data.progress import progress_bar
from tl_nla.smollm2 import load_smollm2

ROWS = Path(__file__).parent / "rows" / "rows.jsonl"
LAYERS = (12, 14, 16, 18, 20)
OTHER = 20


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies smollm2_layers")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of `make corpus`")
    parser.add_argument("--rows", type=Path, default=ROWS, help="scores, one JSON object a line")
    parser.add_argument("--table", action="store_true", help="print the tables of the stored rows, and do nothing else")
    parser.add_argument("--documents", type=int, nargs=2, default=(150, 24), help="of training, held-out ones")
    parser.add_argument("--steps", type=int, default=40, help=f"of reinforcement learning on layer {OTHER}")
    parser.add_argument("--keep", type=Path, default=Path("runs/smollm2_layers"), help="folder of that training")
    args = parser.parse_args(arguments)
    if not args.table:
        smol = load_smollm2(dtype="bfloat16")
        nla = smol.nla
        with progress_bar():
            states = held_out_layers(smol, args.corpus, LAYERS, args.documents[1], 3)
            train = drawn_layers(smol, args.corpus, LAYERS, args.documents[0], 12).acts
        trained = reinforced_nla(train[OTHER], args.steps, args.keep)
        with progress_bar(), torch.no_grad():
            layers = Layers.of(states, train)
            said = explained(nla, layers)
            other = explained_by(trained, states.acts[OTHER])
            write_lines(args.rows, layer_rows(nla, layers, said, {OTHER: other}))
    sys.stdout.write(as_markdown(read_lines(args.rows)))
