"""Does a reader that is taught questions about writes answer others, and explain freely? On heads of SmolLM2.

``TL_NLA_SMOLLM2=FOLDER python -m docs.studies smollm2_questions --corpus corpus --rows rows.jsonl --keep KEPT``
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from docs.studies.lines import read_lines, write_lines
from docs.studies.scored import study_parser
from docs.studies.smollm2_questions.capture import KINDS, Writes, capture, survey, whole_words, windows
from docs.studies.smollm2_questions.reader import LEVELS, Reader, goals, recipes, sized, usual_size
from docs.studies.smollm2_questions.score import Asked, control_rows, reader_rows
from docs.studies.smollm2_questions.table import as_markdown
from tl_nla.data.progress import progress_bar
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import model_folder


def main(arguments: Sequence[str]) -> None:
    """Capture, teach and score; or print the tables of stored rows."""
    parser = study_parser("smollm2_questions")
    parser.add_argument("--documents", type=int, nargs=2, default=(30, 5), help="of training and held out, a kind")
    parser.add_argument("--steps", type=int, default=60, help="of each training, 32 writes a step")
    parser.add_argument("--keep", type=Path, default=Path("runs/smollm2_questions"), help="folder of finished parts")
    args = parser.parse_args(arguments)
    if not args.table:
        with progress_bar():
            write_lines(args.rows, question_rows(args))
    sys.stdout.write(as_markdown(read_lines(args.rows)))


def question_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a held-out write: its head, its document, and what each arm answered. Finished arms are kept."""
    folder = model_folder("smollm2")
    tokenizer, model = load_tokenizer(folder), load_causal_lm(folder, torch.bfloat16).eval()
    train, held, words = _writes(args, model, tokenizer)
    usual, level = usual_size(train), torch.tensor([tokenizer.encode(text)[0] for text in LEVELS])
    borders = torch.quantile(train.effect, torch.tensor([1 / 3, 2 / 3]))
    goal = goals(train, borders, level)
    asked = Asked.of(held, sized(held, usual), goals(held, borders, level), words, level)
    table = model.get_input_embeddings().weight.detach().float()
    found = {name: {"own": rows} for name, rows in control_rows(asked, train, goal, table, level, borders).items()}
    for name, recipe in recipes(args.steps).items():
        path = args.keep / f"{name}.json"
        if not path.is_file():
            reader = Reader(model, tokenizer, recipe)
            losses = reader.train(train, sized(train, usual), goal) if recipe.kinds else []
            args.keep.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"losses": losses, **reader_rows(asked, reader)}), encoding="utf-8")
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for row in range(len(held)):
        layer, head = held.heads[held.head[row]]
        arms = {f"{arm}{'' if part == 'own' else ', another write'}": short(side[row])
                for arm, parts in found.items() for part, side in parts.items() if part != "losses"}  # fmt: skip
        truth = [tokenizer.decode([token]) if token >= 0 else None for token in held.answer[row].tolist()]
        rows.append({"document": int(held.document[row]), "head": f"{layer}.{head}", "truth": truth,
                     "effect": round(float(held.effect[row]), 5), "arms": arms})  # fmt: skip
    return rows


def short(answers: dict[str, Any]) -> dict[str, str]:
    """Answers of one arm about one write in few letters.

    By question: 1 for a right answer. Then 1 where the right one wins against nine wrong ones, ``-`` where nobody
    chose. Then the first letters of the questions whose truth the answer is. ``free``: of those whose truth is named.
    """
    found = {}
    for kind, answer in answers.items():
        if kind in KINDS:
            found[kind] = f"{answer['right']}{answer.get('wins', '-')}{''.join(name[0] for name in answer['is'])}"
        elif kind == "free":
            found[kind] = "".join(name[0] for name, there in answer.items() if there)
        else:
            found[kind] = answer
    return found


def _writes(args: argparse.Namespace, model: Any, tokenizer: Any) -> tuple[Writes, Writes, torch.Tensor]:
    """Training and held-out writes, captured or kept, and the tokens that are words."""
    texts, document = windows(tokenizer, args.corpus, "train", args.documents[0], 3)
    words = whole_words(tokenizer, int(model.config.vocab_size), texts)
    paths = [args.keep / f"{name}.safetensors" for name in ("train", "held_out")]
    if not all(path.is_file() for path in paths):
        precise = load_causal_lm(model_folder("smollm2"), torch.float32).eval()
        for one in (model, precise):
            one.set_attn_implementation("eager")
        mixed = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
        known = survey(model, texts[mixed], words)
        capture((model, precise), texts, document, known, words).save(paths[0])
        others, numbers = windows(tokenizer, args.corpus, "held_out", args.documents[1], 1)
        capture((model, precise), others, numbers, known, words).save(paths[1])
    train, held = (Writes.load(path) for path in paths)
    return train, held, words
