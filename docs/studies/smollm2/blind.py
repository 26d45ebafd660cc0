"""What a reader who knows only English can tell from a write's words: is it a meaning or only a code?

``python -m docs.studies.smollm2.blind --keep writes --rows docs/studies/smollm2/rows/blind.jsonl``
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from docs.studies.smollm2.capture import read_corpus
from docs.studies.smollm2.effects import Effects, Means, capture_effects, cut
from docs.studies.smollm2.english import company, embeddings
from docs.studies.smollm2.fit import captured, site_writes
from docs.studies.smollm2.labels import (
    PERMUTATIONS,
    PLAIN,
    VARIANTS,
    Carried,
    Said,
    beside,
    labels_of,
    nearest,
    variants,
)  # fmt: skip
from docs.studies.smollm2.lens import carried_by_own, fitted_lenses, frozen_model
from docs.studies.smollm2.table import read_rows
from docs.studies.smollm2.writes import SiteWrites
from tl_nla.data.progress import told
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import load_target
from tl_nla.oracle.words import WordCode
from tl_nla.smollm2.oracle import shipped_oracle
from tl_nla.smollm2.weights import find_weights

CANDIDATES, STRONG, DOCUMENTS = 10, 5, (14, 18)
"""Words that the next one is told among; words that a write is shown by; which documents of each kind of text."""
TASKS = ("next word", "effect", "which write")
BANDS = ((0, 9), (10, 19), (20, 26), (27, 29))
"""First and last layers that are put together."""
_LISTED, RESAMPLES = 40, 1000
_Found = dict[tuple[str, str, str, str], list[Tensor]]


@dataclass(frozen=True)
class Asked:
    """What is asked about each component's writes.

    Attributes:
        effects: of all writes.
        neighbours: of each word, the nearest one.
        readers: vectors of the words, by reader.
        up: the words that each write raises most, by document and component.
        down: the words that it lowers most.
        other: nine other writes for each, as numbers of documents and of components.
    """

    effects: Effects
    neighbours: Tensor
    readers: dict[str, Tensor]
    up: Tensor
    down: Tensor
    other: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, effects: Effects, readers: dict[str, Tensor]) -> "Asked":
        """Draw the other writes: of any other documents and components."""
        rows, parts = effects.added.shape[:2]
        generator = torch.Generator().manual_seed(0)
        drawn = (rows, parts, CANDIDATES - 1)
        document = (torch.arange(rows)[:, None, None] + torch.randint(1, rows, drawn, generator=generator)) % rows
        component = (torch.arange(parts)[None, :, None] + torch.randint(1, parts, drawn, generator=generator)) % parts
        listed = [
            torch.stack([(sign * own.float()).topk(_LISTED).indices for own in effects.added]) for sign in (1, -1)
        ]
        return cls(effects, nearest(readers["embeddings"]), readers, *listed, (document, component))


def ask(asked: Asked, number: int, labels: dict[str, Said | None], found: _Found) -> None:
    """All tasks at one component: scores of each document's write by label, reader and control."""
    added = asked.effects.added[:, number].float()
    nothing = torch.full((len(added),), float("nan"))
    for label, said in labels.items():
        if said is None:
            for variant, reader, task in product(VARIANTS, asked.readers, TASKS):
                found[label, reader, variant, task] += [nothing] * (PERMUTATIONS if variant == "permuted" else 1)
            continue
        taken = _taken(said, asked.neighbours, added.shape[1])
        chosen = asked.effects.clean.masked_fill(taken, -torch.inf).topk(CANDIDATES).indices
        truth = added.gather(1, chosen)
        shown = _shown(asked, number, taken)
        for reader, vectors in asked.readers.items():
            known = vectors[chosen], torch.stack([_meant(one, vectors) for one in shown], 1)
            for variant, words in variants(said, asked.neighbours):
                meant = _meant(words, vectors)
                guess, fit = (torch.einsum("nw,ncw->nc", meant, part) for part in known)
                for task, score in zip(TASKS, (_first(truth, guess), spearman(truth, guess), _which(fit)), strict=True):
                    found[label, reader, variant, task].append(score)


def _taken(said: Said, neighbours: Tensor, count: int) -> Tensor:
    """Words that are said, or nearest to such: no reader is asked about them."""
    taken = torch.zeros(len(said.word), count, dtype=torch.bool)
    for word in (said.word, neighbours[said.word.clamp_min(0)]):
        taken.scatter_(1, word.clamp_min(0), True)
    return taken


def _meant(words: Said, vectors: Tensor) -> Tensor:
    return torch.einsum("nk,nkw->nw", words.weight, vectors[words.word.clamp_min(0)])


def _shown(asked: Asked, number: int, taken: Tensor) -> list[Said]:
    """The write asked for and nine others, each as the words that it raises and lowers most."""
    document, component = (part[:, number] for part in asked.other)
    own = torch.arange(len(taken))[:, None]
    document, component = torch.cat([own, document], 1), torch.cat([torch.full_like(own, number), component], 1)
    shown = []
    for place in range(CANDIDATES):
        sides = []
        for listed in (asked.up, asked.down):
            words = listed[document[:, place], component[:, place]]
            order = taken.gather(1, words).long().argsort(dim=1, stable=True)
            sides.append(words.gather(1, order)[:, :STRONG])
        sign = torch.cat([torch.ones(STRONG), -torch.ones(STRONG)]).expand(len(taken), -1)
        shown.append(Said(torch.cat(sides, 1), sign))
    return shown


def _first(truth: Tensor, guess: Tensor) -> Tensor:
    """Whether the word that rises most is the one with the best score."""
    return (truth.argmax(1) == guess.argmax(1)).float()


def _which(fit: Tensor) -> Tensor:
    return (fit.argmax(1) == 0).float() * (fit[:, 0] > fit[:, 1:].min(1).values)


def spearman(left: Tensor, right: Tensor) -> Tensor:
    """Rank correlation of each row; 0 where nothing varies."""
    ranks = [part.argsort(1).argsort(1).float() for part in (left, right)]
    ranks = [part - part.mean(1, keepdim=True) for part in ranks]
    same = (right == right[:, :1]).all(1)
    return torch.cosine_similarity(*ranks, dim=1).masked_fill(same, 0.0)


def rows_of(sites: list[str], found: _Found, document: Tensor) -> list[dict[str, Any]]:
    """Means with intervals over documents: of each kind and layer, of all layers of a kind, and of each head."""
    groups: dict[tuple[str, Any], list[int]] = defaultdict(list)
    for number, site in enumerate(sites):
        kind, layer = kind_of(site), int(site.split(".")[1])
        groups[kind, layer].append(number)
        groups[kind, "all"].append(number)
        groups[kind, next(f"layers {first} to {last}" for first, last in BANDS if layer <= last)].append(number)
        if kind == "head":
            groups["one head", f"L{layer}.H{site.rsplit('.', 1)[1]}"].append(number)
    joined = {key: torch.stack(values, 1).double() for key, values in _averaged(found, len(sites)).items()}
    drawn = torch.randint(len(document), (RESAMPLES, len(document)), generator=torch.Generator().manual_seed(0))
    rows = []
    for (label, reader, variant, task), values in joined.items():
        above = values - joined[label, reader, "permuted", task]
        plain = values - joined.get((PLAIN, reader, variant, task), values)
        for (kind, where), members in groups.items():
            if kind == "one head" and (variant != "right" or not label.startswith("oracle")):
                continue
            row = {"label": label, "reader": reader, "variant": variant, "task": task, "kind": kind, "where": where}
            for name, part in (("", values), ("above_", above), ("plain_", plain)):
                each = part[:, members].nanmean(1)  # one row a document, so documents are drawn by rows
                low, high = each[drawn].mean(1).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
                row |= {f"{name}value": float(each.mean()), f"{name}low": low, f"{name}high": high}
            rows.append(row | {"documents": len(document), "components": len(members)})
    return [row for row in rows if row["value"] == row["value"]]


def _averaged(found: _Found, sites: int) -> _Found:
    """Several permutations as one; a component without a label is not a number."""
    kept = {}
    for key, values in found.items():
        each = len(values) // sites
        kept[key] = [torch.stack(values[first : first + each]).mean(0) for first in range(0, len(values), each)]
    return kept


def kind_of(site: str) -> str:
    """Kind of a component."""
    return "head" if ".head." in site else site.rsplit(".", 1)[1]


def effects_kept(args: argparse.Namespace, target: Any, oracle: Any) -> Effects:
    """Effects of the held-out documents, read once."""
    path = args.keep / f"effects-{len(oracle.code.text)}.safetensors"
    if not path.is_file():
        train = site_writes(captured(args.corpus, args.keep, "train"), target)
        folder = find_weights()
        model = load_causal_lm(folder, torch.float32).eval()
        words = oracle.code.tables.token
        capture_effects(model, load_tokenizer(folder), args.corpus, DOCUMENTS, Means.of(train), words).save(path)
    return Effects.load(path)


def own_kept(args: argparse.Namespace, code: WordCode, writes: SiteWrites, sites: list[str]) -> Tensor:
    """Writes as their own text's Jacobian carries them, computed once."""
    path = args.keep / "own.safetensors"
    if not path.is_file():
        model, tokenizer = frozen_model()
        texts = [text for _, _, text in read_corpus(args.corpus / "held_out.jsonl", DOCUMENTS[1], DOCUMENTS[0])]
        told_writes = torch.stack([beside(code, writes, site) for site in sites], 1)
        own = carried_by_own(model, [ids for _, ids in cut(tokenizer, texts)], sites, told_writes)
        save_file({"own": own}, path)
    return load_file(path)["own"]


def main() -> None:
    """Ask everything and write the rows."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.smollm2.blind")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--keep", type=Path, required=True, help="folder of captured writes")
    parser.add_argument("--rows", type=Path, required=True, help="scores, one JSON object a line")
    parser.add_argument("--table", action="store_true", help="print the table of the stored scores only")
    parser.add_argument("--note", type=Path, metavar="FILE", help="write what single heads' words mean into words.yaml")
    args = parser.parse_args()
    if args.note is not None:
        note(read_rows(args.rows), args.note)
        return
    if args.table:
        from docs.studies.smollm2.blind_table import as_markdown

        sys.stdout.write(as_markdown(read_rows(args.rows)))
        return
    target = load_target("smollm2")
    oracle = shipped_oracle(target.model)
    effects, code = effects_kept(args, target, oracle), oracle.code
    writes: SiteWrites = site_writes(effects.writes, target)
    readers = {"embeddings": embeddings(target.model, code.tables.token),
               "company": company(target.tokenizer, args.corpus, code.tables.token)}  # fmt: skip
    asked = Asked.of(effects, readers)
    sites = [
        site for kind in ("head", "attn", "mlp") for site in writes if site.count(".") > 1 and kind_of(site) == kind
    ]
    carried = Carried(fitted_lenses(args.keep), own_kept(args, code, writes, sites))
    found: _Found = defaultdict(list)
    for number, (site,) in enumerate(told([[site] for site in sites], "asking a blind reader")):
        ask(asked, number, labels_of(code, writes, effects, site, number, carried), found)
    rows = rows_of(sites, found, effects.writes.document)
    args.rows.write_text("".join(json.dumps(row) + "\n" for row in kept_rows(rows)), encoding="utf-8")


def kept_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the tables and :func:`note` use: all layers together, bands of them, single ones in the task ``effect``."""
    kept = []
    for row in rows:
        band = str(row["where"]).startswith("layers")
        tasks = TASKS[1:] if band else ("effect",)
        if row["where"] == "all" or (row["variant"] == "right" and row["task"] in tasks):
            kept.append({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()
                         if band or not name.startswith("plain_")})  # fmt: skip
    return kept


def note(rows: Sequence[dict[str, Any]], path: Path, label: str = "oracle, 8 words") -> None:
    """Write into an oracle's ``words.yaml`` which heads' words mean something to the reader of embeddings.

    Args:
        rows: of the study.
        path: of the file; its ``about`` takes ``meaning``, by site.
        label: whose words.
    """
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    told["about"]["meaning"] = {
        "blocks.{}.attn.head.{}".format(*row["where"].removeprefix("L").split(".H")):
            [row[f"above_{name}"] for name in ("value", "low", "high")]
        for row in rows
        if (row["kind"], row["task"], row["reader"], row["label"]) == ("one head", "effect", "embeddings", label)
    }  # fmt: skip
    path.write_text(yaml.safe_dump(told, allow_unicode=True, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
