"""How should a state enter a verbalizer on a model with realistic norms? Two cheap proxies on SmolLM2.

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_injection --corpus corpus --rows rows.jsonl``
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from docs.studies.lines import write_lines
from docs.studies.real_states import DrawnStates, drawn_layers
from docs.studies.scored import run_study, study_parser
from docs.studies.smollm2_injection.table import as_markdown
from docs.studies.smollm2_injection.train import ARMS, LAYER, TRAINED, answers, trained, untrained
from docs.studies.smollm2_nla.score import another_document
from tl_nla.metrics import normalise
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.model.loading import load_causal_lm, load_tokenizer

_DECAY = 0.1


def main(arguments: Sequence[str]) -> None:
    """Score, or print the tables of stored rows."""
    parser = study_parser("smollm2_injection")
    parser.add_argument("--documents", type=int, nargs=2, default=(150, 20), help="of training, held-out ones")
    parser.add_argument("--steps", type=int, default=40, help="of each training, 16 rows a step")
    run_study(parser.parse_args(arguments), _score, as_markdown)


def _score(smol: Any, args: argparse.Namespace) -> None:
    for rows in injection_rows(smol, args):
        write_lines(args.rows, rows)


def injection_rows(smol: Any, args: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """One row a held-out position: nats and rightness of its tokens by arm; first without training, then arm by arm."""
    train = drawn_layers(smol, args.corpus, [LAYER], args.documents[0], 12)
    held = drawn_layers(smol, args.corpus, [LAYER], args.documents[1], 3, "held_out")
    model, tokenizer = load_causal_lm(smol.folder, torch.bfloat16), load_tokenizer(smol.folder)
    goal, others = torch.stack([held.last, held.following], 1), another_document(held.names)
    rows: list[dict[str, Any]] = [{"document": name, "untrained": {}, "trained": {}, "shuffled": {}}
                                  for name in held.names]  # fmt: skip
    for arm, how in ARMS.items():
        if how.kind != "affine" or how.slots == 1:
            _put(rows, "untrained", arm, answers(untrained(model, tokenizer, how), held.acts[LAYER], goal[:, :1]))
    _put(rows, "trained", "linear", (None, _linear(smol, train, held)))
    yield rows
    for arm in TRAINED:
        verbalizer = trained(model, tokenizer, ARMS[arm], train, args.steps, 16)
        _put(rows, "trained", arm, answers(verbalizer, held.acts[LAYER], goal))
        _put(rows, "shuffled", arm, answers(verbalizer, held.acts[LAYER][others], goal))
        yield rows


def _put(rows: list[dict[str, Any]], part: str, arm: str, found: tuple[Tensor | None, Tensor]) -> None:
    for name, values in zip(("nats", "right"), found, strict=True):
        if values is not None:
            for row, value in zip(rows, values.tolist(), strict=True):
                row[part].setdefault(arm, {})[name] = [round(one, 3) for one in value]


def _linear(smol: Any, train: DrawnStates, held: DrawnStates) -> Tensor:
    """Whether the nearest embedding to a ridge regression's guess is the last token's."""
    table = smol.model.W_E.detach().float()
    fitted = fit_ridge(normalise(train.acts[LAYER]), table[train.last], _DECAY)
    guess = normalise(fitted.predict(normalise(held.acts[LAYER])).float()) @ normalise(table).T
    return (guess.argmax(1) == held.last).float()[:, None]
