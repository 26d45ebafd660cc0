"""Which claims of the NLA's explanations are true, does it know which, and does the model do what edited claims say?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_faithfulness --corpus corpus --rows rows.jsonl``
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from docs.studies.lines import read_lines, write_lines
from docs.studies.real_states import held_out_layers
from docs.studies.smollm2_faithfulness.causal import causal_rows, claim_edits
from docs.studies.smollm2_faithfulness.certainty import spoken_words, word_claims
from docs.studies.smollm2_faithfulness.table import as_markdown
from tl_nla.data.progress import progress_bar
from tl_nla.smollm2 import load_smollm2

ROWS = Path(__file__).parent / "rows" / "rows.jsonl"


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies smollm2_faithfulness")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of `make corpus`")
    parser.add_argument("--rows", type=Path, default=ROWS, help="scores, one JSON object a line")
    parser.add_argument("--table", action="store_true", help="print the tables of the stored rows, and do nothing else")
    parser.add_argument("--documents", type=int, default=60, help="held-out pieces of text, three states each")
    parser.add_argument("--edited", type=int, default=180, help="states whose claims are edited")
    args = parser.parse_args(arguments)
    if not args.table:
        smol = load_smollm2(dtype="bfloat16")
        nla = smol.nla
        with progress_bar(), torch.no_grad():
            states = held_out_layers(smol, args.corpus, [nla.layer], args.documents, 3, nla.layer)
            found = nla.generate(states.acts[nla.layer], max_new_tokens=40, batch_size=96)
            rows = [{"part": "claim", "document": states.held.names[row], **asdict(claim)}
                    for row, gold in enumerate(states.held.states.explanations)
                    for claim in word_claims(spoken_words(nla, found, row), gold)]  # fmt: skip
            edits = claim_edits(smol, states, found.texts[: args.edited])
            rows += [{"part": "edit", **row} for row in causal_rows(smol, nla, states, found.texts, edits)]
            write_lines(args.rows, rows)
    sys.stdout.write(as_markdown(read_lines(args.rows)))
