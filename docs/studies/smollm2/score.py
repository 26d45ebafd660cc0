"""Scores of the shipped oracle on held-out documents, by layer and kind of component.

``python -m docs.studies.smollm2.score --keep writes --rows docs/studies/smollm2/rows/oracle.jsonl``
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from docs.studies.smollm2.english import embeddings
from docs.studies.smollm2.fit import captured, site_writes
from docs.studies.smollm2.labels import nearest
from docs.studies.smollm2.table import read_rows
from docs.studies.smollm2.words import first_words, seen, two_lists
from docs.studies.smollm2.writes import SiteWrites
from tl_nla.benchmark.bootstrap import fve_interval
from tl_nla.metrics import normalise
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.model.targets import load_target
from tl_nla.oracle.labels import pursue
from tl_nla.oracle.labels.directions import WordDirections
from tl_nla.oracle.words import WordCode, WordOracle
from tl_nla.oracle.words.tables import unit_rows
from tl_nla.smollm2.oracle import shipped_oracle

LENGTHS, TOLD, SQUEEZED = (4, 8, 16), 16, 64
SIDES = ("fresh", "later", "held_out")
KINDS = ("one head", "head", "attn", "mlp", "block")
GOLD = tuple(f"blocks.{layer}.attn.head.0" for layer in (3, 15, 27))
"""Heads at which the labels are read, too; scored by themselves."""
_DECAY = 0.1


@dataclass(frozen=True)
class Sides:
    """Everything that arms are read from."""

    oracle: WordOracle
    train: SiteWrites
    held: SiteWrites
    from_context: Tensor | None
    everything: dict[str, Tensor]
    neighbours: dict[int, dict[str, str]]
    rebuilt: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, arm: str, write: Tensor) -> None:
        """Add a write that was read back to the layer's sum; what recovery is measured on."""
        self.sums[arm] = self.sums[arm] + write if arm in self.sums else write


def main() -> None:
    """Score every layer; one that has its scores already is not done again."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.smollm2.score")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--keep", type=Path, required=True, help="folder of captured writes")
    parser.add_argument("--rows", type=Path, required=True, help="scores, one JSON object a line")
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(30)))
    parser.add_argument("--every", type=int, default=4, help="one of so many held-out rows is explained")
    parser.add_argument("--side", choices=SIDES, default=SIDES[0], help="which documents are scored")
    parser.add_argument("--words-only", action="store_true", help="leave out the arms that see no words")
    parser.add_argument("--table", action="store_true", help="print the table of the stored scores only")
    args = parser.parse_args()
    if args.table:
        sys.stdout.write(as_markdown(read_rows(args.rows)))
        return
    target = load_target("smollm2")
    held = site_writes(captured(args.corpus, args.keep, args.side).every(args.every), target)
    train = held if args.words_only else site_writes(captured(args.corpus, args.keep, "train"), target)
    oracle = shipped_oracle(target.model)
    named = [kind_of(site) for site in oracle.code.sites]
    everything = {kind: oracle.code.mean[torch.tensor([one == kind for one in named])].mean(0) for kind in set(named)}
    counts = oracle.code.choice.unique().tolist()
    neighbours = {count: neighbours_of(target.model, oracle.code, count) for count in counts}
    context = None if args.words_only else smoother(*squeezed_context(target.model, train, held))
    sides = Sides(oracle, train, held, context, everything, neighbours)
    done = {row["layer"] for row in read_rows(args.rows)}
    args.rows.parent.mkdir(parents=True, exist_ok=True)
    for layer in args.layers:
        sides.sums.clear()
        sides.rebuilt.clear()
        if layer in done:
            continue
        found = [
            {"layer": layer, "kind": kind, "seed": 0, **row} for kind in KINDS for row in score(sides, layer, kind)
        ]
        kept = {arm: write.contiguous() for arm, write in sides.sums.items()}
        save_file(kept, args.keep / f"rebuilt-{args.side}-{args.every}-{layer}.safetensors")
        with args.rows.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in found))


def neighbours_of(model: Any, code: WordCode, count: int) -> dict[str, str]:
    """For each of the first words the one of them whose embedding is nearest."""
    words = code.text[:count]
    near = nearest(embeddings(model, code.tables.token[:count])).tolist()
    return {word: words[other] for word, other in zip(words, near, strict=True)}


def squeezed_context(model: Any, *sides: SiteWrites) -> list[Tensor]:
    """For each side the last tokens of its rows, each as principal components of its embedding."""
    table = model.W_E.detach().float()
    centred = table - table.mean(0)
    squeezed = (centred @ torch.linalg.eigh(centred.T @ centred)[1])[:, -SQUEEZED:]
    squeezed = squeezed / squeezed.norm(dim=1).mean()
    return [squeezed[side.rows.context[:, :TOLD]].flatten(1) for side in sides]


def kind_of(site: str) -> str:
    """Kind of a component, from its text."""
    return "head" if ".head." in site else site.split(".")[2] if site.count(".") == 2 else "block"


def score(sides: Sides, layer: int, kind: str) -> Iterator[dict[str, Any]]:
    """Rows of scores of one layer's components of one kind, all of them together."""
    sites = [site for site in sides.oracle.code.sites if kind_of(site) == kind and int(site.split(".")[1]) == layer]
    if kind == "one head":
        sites = [site for site in GOLD if site.startswith(f"blocks.{layer}.")]
    if not sites:
        return
    from_state = None
    if sides.from_context is not None:
        from_state = smoother(*(normalise(side[sites[0]][0]) for side in (sides.train, sides.held)))
    parts = [_site(sides, site, from_state, kind == "one head") for site in sites]
    document = sides.held.rows.document.repeat(len(sites))
    strict = torch.cat([part.pop("strict") for part in parts])
    plain = torch.cat([part.pop("plain") for part in parts])
    for arm in (arm for arm in parts[0] if all(arm in part for part in parts)):
        errors = torch.cat([part[arm] for part in parts])
        found: dict[str, Any] = {"arm": arm, "n": len(errors), "components": len(sites)}
        for name, base in (("fve", strict), ("fve_all", plain)):
            interval = fve_interval(errors, base, document, generator=torch.Generator().manual_seed(0), resamples=300)
            found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        yield found


def _site(sides: Sides, site: str, from_state: Tensor | None, one: bool) -> dict[str, Tensor]:
    """Squared errors of each arm at one component, and the distances that they are compared to."""
    oracle, code = sides.oracle, sides.oracle.code
    before, write = sides.held[site]
    truth, mean = normalise(write), code.mean[code.index(site)]
    found = {"strict": _square(truth, mean), "plain": _square(truth, sides.everything[kind_of(site)])}
    texts: list[str] = []
    kind = "one head" if one else kind_of(site)
    number = code.tell_component(before, write)
    told = [code.sites[one] for one in number.tolist()]
    for words in LENGTHS:
        texts = oracle.explain(write, before, words=words, sites=told)
        rebuilt = oracle.reconstruct(texts)
        sides.rebuilt[site, words] = rebuilt
        found[f"explanation, {words} words"] = _square(truth, normalise(rebuilt))
        if kind in ("head", "mlp"):
            sides.add(f"words, {words} each", rebuilt)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(2)).tolist()
    counts, near = code.choice[number].tolist(), sides.neighbours
    changed = {"shuffled": [texts[row] for row in order],
               "permuted": by_choice(texts, counts, lambda part, count: permuted(part, code.text[:count])),
               "nearest": by_choice(texts, counts, lambda part, count: renamed(part, near[count]))}  # fmt: skip
    for arm, other in changed.items():
        rebuilt = oracle.reconstruct(other)
        found[arm] = _square(truth, normalise(rebuilt))
        if kind in ("head", "mlp"):
            sides.add(arm, rebuilt)
    if kind in ("head", "mlp"):
        sides.add(f"{kind}s, {max(LENGTHS)} words", sides.rebuilt[site, max(LENGTHS)])
    for arm, weights in (("context, 16 tokens", sides.from_context), ("probe of the state", from_state)):
        if weights is not None:
            wanted = normalise(sides.train[site][1])
            found[arm] = _square(truth, wanted.mean(0) + weights @ (wanted - wanted.mean(0)))
    if kind_of(site) == "attn":
        found |= {
            f"sum of heads, {words} words each": _square(truth, _by_heads(sides, site, words)) for words in LENGTHS
        }
    if one and from_state is not None:
        found |= _gold(sides, site, truth)
    found["component"] = found["strict"]
    return found


def _by_heads(sides: Sides, site: str, words: int) -> Tensor:
    """An attention's write as the sum of what the words of its heads give back."""
    total = torch.zeros(())
    for head in (one for one in sides.oracle.code.sites if one.startswith(f"{site}.head.")):
        known = sides.rebuilt.pop((head, words), None)
        if known is None:  # told by a run before this one
            before, write = sides.held[head]
            known = sides.oracle.reconstruct(sides.oracle.explain(write, before, words=words))
        total = total + known
    return normalise(total)


def _gold(sides: Sides, site: str, truth: Tensor) -> dict[str, Tensor]:
    """Words of an orthogonal matching pursuit over the same vocabulary, read by ridge regression."""
    code = sides.oracle.code
    number, basis = code.index(site), code.tables.basis[site]
    tables, mean = code.tables.first(int(code.choice[number])), code.mean[number]
    direction = unit_rows(tables.table @ basis)
    words = WordDirections(tables.token, tables.text, direction, basis, torch.ones(len(direction)))
    beside = [(normalise(write) - mean) @ basis for write in (sides.train[site][1], truth)]
    chosen = [pursue(rows, words, max(LENGTHS)) for rows in beside]
    found = {}
    for count in LENGTHS[1:]:
        inputs = [seen(two_lists(*first_words(rows, one.word, words, count)), direction)
                  for rows, one in zip(beside, chosen, strict=True)]  # fmt: skip
        weights = smoother(*inputs)
        guess = mean + (beside[0].mean(0) + weights @ (beside[0] - beside[0].mean(0))) @ basis.T
        found[f"gold, {count} words"] = _square(truth, guess)
    return found


def smoother(known: Tensor, asked: Tensor) -> Tensor:
    """Ridge regression as weights of training targets: ``[asked, known]``, for any targets of the same inputs."""
    fitted = fit_ridge(known, torch.eye(len(known)), _DECAY)
    return ((asked.double() - fitted.input_mean) @ fitted.weight).float()


def _square(truth: Tensor, guess: Tensor) -> Tensor:
    return (truth.double() - guess.double()).square().sum(1)


def by_choice(texts: list[str], counts: list[int], change: Callable[[list[str], int], list[str]]) -> list[str]:
    """Texts changed together with those whose component, as it was told, chooses from as many words."""
    found = list(texts)
    for count in set(counts):
        rows = [row for row, own in enumerate(counts) if own == count]
        for row, text in zip(rows, change([texts[row] for row in rows], count), strict=True):
            found[row] = text
    return found


def permuted(texts: list[str], words: tuple[str, ...]) -> list[str]:
    """The same texts, each word replaced through a fixed permutation of the words that may be said."""
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(1)).tolist()
    return renamed(texts, {word: words[i] for word, i in zip(words, order, strict=True)})


def renamed(texts: list[str], other: dict[str, str]) -> list[str]:
    """The same texts with other words in their lists."""
    return ["; ".join(_renamed(part, other) for part in text.split("; ")) for text in texts]


def _renamed(part: str, other: dict[str, str]) -> str:
    head, found, words = part.partition("promotes ") if "promotes " in part else part.partition("suppresses ")
    return head + found + " ".join(other.get(word, word) for word in words.split(" ")) if found else part


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """FVE against the own mean by arm and kind: the average over layers, the lowest and the highest layer."""
    kinds = [kind for kind in ("head", "attn", "mlp", "block", "one head") if any(row["kind"] == kind for row in rows)]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = ["| arm | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
    for arm in arms:
        cells = []
        for kind in kinds:
            own = [row for row in rows if row["arm"] == arm and row["kind"] == kind]
            if not own:
                cells.append("")
                continue
            fve, everything = ([row[name] for row in own] for name in ("fve", "fve_all"))
            mean, other = sum(fve) / len(fve), sum(everything) / len(everything)
            cells.append(f"{mean:.2f} [{min(fve):.2f}, {max(fve):.2f}] / {other:.2f}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
