"""Which claims of the NLA's explanations are true, does it know which, and does the model do what edited claims say?

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_faithfulness --corpus corpus --rows rows.jsonl``
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from docs.studies.real_states import held_out_layers
from docs.studies.scored import keep_seed, run_study, study_parser
from docs.studies.smollm2_faithfulness.causal import causal_rows, claim_edits
from docs.studies.smollm2_faithfulness.certainty import spoken_words, word_claims
from docs.studies.smollm2_faithfulness.table import as_markdown


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = study_parser("smollm2_faithfulness", seeds=True)
    parser.add_argument("--documents", type=int, default=60, help="held-out pieces of text, three states each")
    parser.add_argument("--edited", type=int, default=180, help="states whose claims are edited")
    run_study(parser.parse_args(arguments), _score, as_markdown)


@torch.no_grad()
def _score(smol: Any, args: argparse.Namespace) -> None:
    nla = smol.nla
    states = held_out_layers(smol, args.corpus, [nla.layer], args.documents, 3, args.seed)
    found = nla.generate(states.acts[nla.layer], max_new_tokens=40, batch_size=96)
    rows = [{"part": "claim", "document": states.held.names[row], **asdict(claim)}
            for row, gold in enumerate(states.held.states.explanations)
            for claim in word_claims(spoken_words(nla, found, row), gold)]  # fmt: skip
    edits = claim_edits(smol, states, found.texts[: args.edited])
    rows += [{"part": "edit", **row} for row in causal_rows(smol, nla, states, found.texts, edits, args.seed)]
    keep_seed(args.rows, args.seed, rows)
