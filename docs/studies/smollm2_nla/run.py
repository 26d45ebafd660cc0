"""The NLA that ships for SmolLM2: what its words rebuild, and which of them are true.

``python -m docs.studies smollm2_nla --corpus corpus --rows docs/studies/smollm2_nla/rows/rows.jsonl``
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from docs.studies.scored import study_parser
from docs.studies.smollm2_nla.context_reader import add_context, train_context_reader
from docs.studies.smollm2_nla.own_words import read_own_words
from docs.studies.smollm2_nla.score import arms_of, held_out, linear_reader, write_scores
from docs.studies.smollm2_nla.ship import ship
from docs.studies.smollm2_nla.table import as_markdown, read_rows
from lightning_modules.data.kept_states import read_kept
from tl_nla.smollm2 import load_smollm2


def main(arguments: Sequence[str]) -> None:
    """Ship, score, or print the table of stored rows."""
    parser = study_parser("smollm2_nla")
    parser.add_argument("--ship", type=Path, metavar="FOLDER", help="first take this trained pair into the package")
    parser.add_argument("--commit", default="", help="of the code that trained it")
    parser.add_argument("--note", default="", help="what its settings do not tell")
    parser.add_argument("--documents", type=int, default=120, help="held-out pieces of text")
    parser.add_argument("--positions", type=int, default=3, help="states of each")
    parser.add_argument("--states", type=Path, help="states that the training kept, for the linear reader")
    parser.add_argument("--context", action="store_true", help="train the reader of raw context, add it to the rows")
    parser.add_argument("--own-words", type=Path, metavar="FOLDER", help="train the reader of FOLDER on its own words")
    parser.add_argument("--reader", type=Path, metavar="FOLDER", help="for --own-words: the reconstructor of this pair")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2_nla_own"), help="where that pair goes")
    args = parser.parse_args(arguments)
    if args.own_words is not None:
        read_own_words(args.own_words, args.states, args.out, args.reader)
        return
    if args.context:
        smol = load_smollm2()
        held = held_out(smol.model, smol.tokenizer, smol.nla.layer, args.corpus, args.documents, args.positions)
        add_context(args.rows, held.states, train_context_reader(args.states, args.corpus))
    elif not args.table:
        smol = load_smollm2()
        if args.ship is not None:
            ship(args.ship, smol, args.commit, args.note)
        nla = smol.nla
        held = held_out(smol.model, smol.tokenizer, nla.layer, args.corpus, args.documents, args.positions)
        arms, said = arms_of(nla, held)
        if args.states is not None:
            arms["linear"] = linear_reader(read_kept(args.states), held.states, nla.verbalizer)
        write_scores(args.rows, held, arms, said, nla.mean)
    sys.stdout.write(as_markdown(read_rows(args.rows)))
