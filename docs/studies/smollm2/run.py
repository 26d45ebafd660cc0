"""Words of single heads of SmolLM2: jointly chosen ones against the strongest ones, at 4, 8 and 16 words.

``python -m docs.studies smollm2 --corpus corpus --rows docs/studies/smollm2/rows/heads.jsonl``
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2.capture import HeadRows, capture_heads
from docs.studies.smollm2.readers import Truth, fitted, scores
from docs.studies.smollm2.table import as_markdown, read_rows
from docs.studies.smollm2.words import TwoLists, first_words, seen, seen_in_order, strongest, two_lists, whole_words
from tl_nla.metrics import normalise
from tl_nla.model.targets import load_target
from tl_nla.oracle.labels import Lens, Vocabulary, pursue
from tl_nla.oracle.labels.directions import WordDirections, frequent_first

LAYERS, HEADS, LENGTHS, DIALS = (3, 15, 27), (0, 3, 6), (4, 8, 16), (1.0, 2.0, 4.0)
_SQUEEZED = 64
"""Numbers of an embedding that the reader of raw context sees, so that its inputs are as many as those of words."""


@dataclass(frozen=True)
class Tables:
    """What the words of labels stand for, the same for all heads."""

    lens: Lens
    vocabulary: Vocabulary
    allowed: Tensor
    counts: Tensor
    embedding: Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this study."""
    parser.add_argument("--model", default="smollm2", help="smollm2, a folder or a hub id")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of `make corpus`")
    parser.add_argument("--writes", type=Path, help="captured writes; made and kept there when the file is missing")
    parser.add_argument("--rows", type=Path, required=True, help="scores, one JSON object a line")
    parser.add_argument(
        "--table", action="store_true", help="print the table of the stored scores, and do nothing else"
    )
    parser.add_argument("--layers", type=int, nargs="+", default=list(LAYERS))
    parser.add_argument("--heads", type=int, nargs="+", default=list(HEADS))
    parser.add_argument("--documents", type=int, nargs=2, default=(32, 10), help="training and held-out ones a kind")


def main(arguments: Sequence[str]) -> None:
    """Capture, label, read and score; a head that has its scores already is not done again."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies smollm2")
    add_arguments(parser)
    args = parser.parse_args(arguments)
    if args.table:
        sys.stdout.write(as_markdown(read_rows(args.rows)))
        return
    target = load_target(args.model)
    sites = tuple(f"blocks.{layer}.attn.head.{head}" for layer in args.layers for head in args.heads)
    rows = _writes(target, args, sites)
    tables = _tables(target, rows)
    args.rows.parent.mkdir(parents=True, exist_ok=True)
    done = {row["site"] for row in read_rows(args.rows)}
    for site in sites:
        if site not in done:
            found = [{"site": site, **row} for row in score_head(rows, rows.sites.index(site), tables)]
            with args.rows.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in found))


def _writes(target: Any, args: argparse.Namespace, sites: tuple[str, ...]) -> HeadRows:
    if args.writes is not None and args.writes.exists():
        return HeadRows.load(args.writes)
    rows = capture_heads(target, args.corpus, sites, tuple(args.documents))
    if args.writes is not None:
        rows.save(args.writes)
    return rows


def _tables(target: Any, rows: HeadRows) -> Tables:
    lens = Lens.of(target.model)
    vocabulary = Vocabulary.of(target.tokenizer, lens.weight.shape[1])
    table = target.model.W_E.detach().float()
    squeezed = table - table.mean(0)
    squeezed = squeezed @ torch.linalg.eigh(squeezed.T @ squeezed).eigenvectors[:, -_SQUEEZED:]
    return Tables(lens, vocabulary, whole_words(target.tokenizer, vocabulary, rows.counts), rows.counts,
                  squeezed / squeezed.norm(dim=1).mean())  # fmt: skip


def _truth(rows: HeadRows, head: int) -> Truth:
    scale = rows.basis.shape[1] ** 0.5
    unit = [normalise(write.float()) / write.shape[1] ** 0.5 * scale for write in rows.write]
    train = ~rows.held
    means = torch.stack([write[train].mean(0) @ basis.T for write, basis in zip(unit, rows.basis, strict=True)])
    everything = means.mean(0)
    along = rows.basis[head].T @ everything
    square = unit[head].square().sum(1) - 2 * unit[head] @ along + everything.square().sum()
    return Truth(unit[head], unit[head][train].mean(0), square.double(), rows.document, rows.held)


def score_head(rows: HeadRows, head: int, tables: Tables) -> Iterator[dict[str, Any]]:
    """Scores of every arm at one head."""
    truth = _truth(rows, head)
    beside = truth.write - truth.own
    plain = WordDirections.of(tables.lens, tables.vocabulary, rows.basis[head])
    words = WordDirections.of(tables.lens, tables.vocabulary, rows.basis[head], tables.allowed)
    length = (tables.lens.weight[:, plain.token].T @ rows.basis[head]).norm(dim=1)
    chosen = {"pursuit": pursue(beside, plain, max(LENGTHS)), "pursuit_words": pursue(beside, words, max(LENGTHS))}
    tables_of = {"pursuit": plain, "pursuit_words": words}
    most = {arm: strongest(vectors, plain.direction, length, max(LENGTHS)) for arm, vectors in
            (("topk", truth.write), ("topk_beside", beside))}  # fmt: skip
    for count in LENGTHS:
        made = {arm: (label.shorter(count // 2), plain) for arm, label in most.items()}
        told = {arm: first_words(beside, found.word, tables_of[arm], count) for arm, found in chosen.items()}
        made |= {arm: (two_lists(*found), tables_of[arm]) for arm, found in told.items()}
        for arm, (label, table) in made.items():
            yield from _read(arm, count, label, table.direction, truth)
        context = tables.embedding[rows.context[:, :count]].flatten(1)
        yield _row("context", count, fitted(context, truth).predict(context[truth.held]), truth)
        if count == 8:
            for arm, found in told.items():
                inputs = seen_in_order(*found, tables_of[arm].direction)
                yield _row(f"{arm}_in_order", count, fitted(inputs, truth).predict(inputs[truth.held]), truth)
            yield from _at_eight(made["pursuit"][0], beside, plain, words, tables, truth)
    before = normalise(rows.before[head].float())
    yield _row("probe", 0, fitted(before, truth).predict(before[truth.held]), truth)
    yield _row("component", 0, truth.own.expand(int(truth.held.sum()), -1), truth)


def _at_eight(
    label: TwoLists, beside: Tensor, plain: WordDirections, words: WordDirections, tables: Tables, truth: Truth
) -> Iterator[dict[str, Any]]:
    for dial in (0.0, *DIALS):
        glad = replace(words, preference=frequent_first(tables.counts, dial)[words.token])
        found = pursue(beside, glad, 8)
        told = found.word[found.word >= 0]
        often = {"count_median": tables.counts[words.token[told]].float().median().item(), "dial": dial}
        for row in _read("pursuit_words_dial", 8, two_lists(found.word, found.weight), words.direction, truth):
            if row["arm"] == "pursuit_words_dial":
                yield row | often
    order = torch.randperm(len(plain.token), generator=torch.Generator().manual_seed(1))
    yield from (row for row in _read("permuted", 8, label, plain.direction[order], truth) if row["arm"] == "permuted")


def _read(arm: str, count: int, label: TwoLists, table: Tensor, truth: Truth) -> Iterator[dict[str, Any]]:
    inputs = seen(label, table)
    reader = fitted(inputs, truth)
    held = inputs[truth.held]
    yield _row(arm, count, reader.predict(held), truth)
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(2))
    yield _row(f"{arm}/shuffled", count, reader.predict(held[order]), truth)


def _row(arm: str, count: int, guess: Tensor, truth: Truth) -> dict[str, Any]:
    return {"arm": arm, "words": count, **scores(guess, truth)}
