"""Does reinforcement learning teach SmolLM2's NLA a private code? By warm start and weight of the KL term.

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_steganography --corpus corpus --warm short=PAIR long=PAIR
--stranger PAIR --states FOLDER --weights 0 0.1 --rows rows.jsonl``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docs.studies.lines import read_lines, write_lines
from docs.studies.scored import study_parser
from docs.studies.smollm2_nla.score import held_out
from docs.studies.smollm2_steganography.score import pair_rows
from docs.studies.smollm2_steganography.table import as_markdown
from docs.studies.smollm2_steganography.train import Reinforcement, cells, train_cells
from tl_nla.data.progress import progress_bar, told
from tl_nla.errors import InputError
from tl_nla.nla.adapted_files import load_adapted
from tl_nla.smollm2 import load_smollm2


def main(arguments: Sequence[str]) -> None:
    """Train what is not there yet, score, or print the tables of stored rows."""
    parser = study_parser("smollm2_steganography")
    parser.add_argument("--warm", nargs="+", default=[], metavar="NAME=PAIR", help="warm-started pairs")
    parser.add_argument("--weights", type=float, nargs="*", default=[0.0, 0.1], help="of the KL term")
    parser.add_argument("--trained", nargs="*", default=[], metavar="WARM:NAME=PAIR", help="pairs trained elsewhere")
    parser.add_argument("--stranger", type=Path, help="a pair whose reconstructor read none of these words")
    parser.add_argument("--states", type=Path, help="states that a training kept")
    parser.add_argument("--runs", type=Path, default=Path("runs/smollm2_steganography"), help="folder of trained cells")
    parser.add_argument("--steps", type=int, default=Reinforcement.steps, help="of reinforcement learning")
    parser.add_argument("--documents", type=int, default=40, help="held-out pieces of text, two states each")
    args = parser.parse_args(arguments)
    if not args.table:
        warm = {name: Path(folder) for name, folder in (_split(one) for one in args.warm)}
        train_cells(warm, args.weights, args.states, args.runs, Reinforcement(args.steps))
        with progress_bar():
            write_lines(args.rows, steganography_rows(args, warm))
    sys.stdout.write(as_markdown(read_lines(args.rows)))


def _split(given: str) -> tuple[str, str]:
    name, sign, folder = given.partition("=")
    if not sign:
        raise InputError(f"{given!r} names no pair; give NAME=FOLDER")
    return name, folder


def steganography_rows(args: argparse.Namespace, warm: dict[str, Path]) -> list[dict[str, Any]]:
    """One row a pair and held-out state: before and after each training."""
    pairs: list[tuple[str, str, Path]] = [(name, f"{name}, before", folder) for name, folder in warm.items()]
    pairs += [(cell.warm, cell.name, args.runs / cell.name) for cell in cells(list(warm), args.weights)]
    for name, folder in (_split(one) for one in args.trained):
        start, _, title = name.partition(":")
        pairs.append((start, title, Path(folder)))
    smol = load_smollm2(dtype="bfloat16")
    held = held_out(smol.model, smol.tokenizer, smol.nla.layer, args.corpus, args.documents, 2)
    stranger = load_adapted(str(args.stranger)).reconstructor.eval()
    rows = []
    for (pair,) in told([[pair] for pair in pairs], "scoring pairs"):
        start, title, folder = pair
        nla = load_adapted(str(folder)).eval()
        readers = {"own": nla.reconstructor, "stranger": stranger}
        if folder != warm[start]:
            readers["warm start's"] = load_adapted(str(warm[start])).reconstructor.eval()
        rows += [{"pair": title, **row} for row in pair_rows(nla, held, readers, "own")]
    return rows
