"""Row scores of the shipped NLA on held-out documents: squared errors of every arm, and which claims are true."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.drawn import drawn_documents
from tl_nla.data import Document, ExplainedStates
from tl_nla.data.explained import StateCapture, explain_states
from tl_nla.explainers.short import ShortExplainer
from tl_nla.faithfulness.short_claims import short_parts
from tl_nla.metrics import normalise
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.nla import NLA, BeamSearch, BestOf
from tl_nla.nla.sure_words import leave_out, sure_tokens

WORDS, SURE = 7, 0.5
BEAMS = 4
SURE_NAMES = {"explanation": "sure", "beams": "beams, sure", "best": "best, sure"}
SHUFFLED = {"explanation": "shuffled", "beams": "beams, shuffled", "best": "best, shuffled"}
_LONGEST, _CAP = 96, 40


@dataclass(frozen=True)
class HeldOut:
    """Rows of held-out documents.

    Attributes:
        states: with gold texts and raw contexts of equal length.
        documents: their pieces of text.
        names: the document of each row: pieces of one novel are one document.
        kinds: the kind of text of each row.
    """

    states: ExplainedStates
    documents: list[Document]
    names: list[str]
    kinds: list[str]


def held_out(
    model: Any, tokenizer: Any, layer: int, corpus: Path, documents: int, positions: int, seed: int = 0
) -> HeldOut:
    """States of held-out documents, drawn from all kinds of text.

    Args:
        model: the target.
        tokenizer: its tokenizer.
        layer: block whose output is read.
        corpus: folder of ``make corpus``.
        documents: pieces of text.
        positions: of each.
        seed: of the draw of documents and positions.
    """
    chosen = drawn_documents(corpus / "held_out.jsonl", documents, seed)
    how = StateCapture(seed, batch_size=16, explainer=ShortExplainer(WORDS), longest=_LONGEST)
    states = explain_states(model, tokenizer, chosen, f"blocks.{layer}.hook_resid_post", positions, how=how)
    own = [chosen[row] for row in states.document.tolist()]
    return HeldOut(states, chosen, [str(one.notes["document"]) for one in own], [str(one.notes["kind"]) for one in own])


def another_document(names: Sequence[str], seed: int = 0) -> list[int]:
    """For each row a row of another document."""
    generator, count = torch.Generator().manual_seed(seed), len(names)
    found = []
    for row in range(count):
        other = next(number for number in torch.randperm(count, generator=generator).tolist()
                     if names[number] != names[row])  # fmt: skip
        found.append(other)
    return found


def arms_of(nla: NLA, held: HeldOut, best_of: int = 8) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Reconstructions by arm, and what was said: greedy, by beam search, the best of several, sure words of each.

    Args:
        nla: the pair.
        held: rows.
        best_of: explanations of which the reconstructor chooses one, in the arm ``best``.
    """
    states = held.states
    said = {}
    for name, pair in (("explanation", nla), ("beams", BeamSearch(nla, BEAMS)), ("best", BestOf(nla, best_of))):
        said |= said_by(pair, name, states)
    arms = {name: nla.reconstruct(texts, 64) for name, texts in said.items()}
    arms["gold"] = nla.reconstruct(states.explanations, 64)
    others = another_document(held.names)
    for arm, name in SHUFFLED.items():
        arms[name] = arms[arm][others]
    read = arms["gold"]
    arms["empty"] = nla.reconstruct([""]).expand_as(read)
    arms["context, same reader"] = nla.reconstruct(states.contexts, 64)
    return arms, said


def said_by(pair: Any, name: str, states: ExplainedStates) -> dict[str, list[str]]:
    """What a pair says of the states, and its sure words, by the names of the two arms."""
    found = pair.generate(states.acts, max_new_tokens=_CAP, batch_size=64, progress=True)
    tokens = sure_tokens(found, pair.verbalizer.tokenizer)
    marked = [leave_out(text, own, SURE) for text, own in zip(found.texts, tokens, strict=True)]
    return {name: found.texts, SURE_NAMES[name]: marked}


def claims(said: str, gold: str) -> dict[str, float]:
    """Which claims of an explanation are true.

    Args:
        said: by the verbalizer.
        gold: by the explainer, which knows the text and the model's prediction.

    Returns:
        ``last 1`` to ``last 7``: whether the word at that place, counted from the end, is right; ``next``: whether the
        first next word is one of the model's two likeliest; ``recent, any place``: share of the recent words that
        are among the true ones.
    """
    (next_said, recent_said), (next_gold, recent_gold) = short_parts(said), short_parts(gold)
    found = {f"last {back}": float(len(recent_said) >= back and recent_said[-back] == recent_gold[-back])
             for back in range(1, WORDS + 1) if len(recent_gold) >= back}  # fmt: skip
    found["next"] = float(bool(next_said) and next_said[0] in next_gold)
    if recent_said:
        found["recent, any place"] = sum(word in recent_gold for word in recent_said) / len(recent_said)
    return found


def linear_reader(train: ExplainedStates, held: ExplainedStates, verbalizer: Any, tokens: int = 2) -> Tensor:
    """Reconstructions by ridge regression from the embeddings of the last tokens: what a reader without blocks gets."""
    sides = []
    for states in (train, held):
        ids = verbalizer.tokenizer(states.contexts, add_special_tokens=False)["input_ids"]
        rows = torch.tensor([([0] * tokens + own)[-tokens:] for own in ids])
        sides.append(verbalizer.embed(rows).float().flatten(1))
    return fit_ridge(sides[0], normalise(train.acts), 0.1).predict(sides[1]).float()


def write_scores(path: Path, held: HeldOut, arms: dict[str, Tensor], said: dict[str, list[str]], mean: Tensor) -> None:
    """One JSON object a row: squared errors of every arm, the deviation from the training mean, claims, both texts.

    Args:
        path: of the file.
        held: rows.
        arms: reconstructions; arms that are no directions but points (``linear``) are taken as they are.
        said: explanations, of :func:`arms_of`.
        mean: of the normalised training states.
    """
    goal = normalise(held.states.acts)
    errors = {name: ((vectors if name == "linear" else normalise(vectors)) - goal).square().sum(1).tolist()
              for name, vectors in arms.items()}  # fmt: skip
    deviation = (goal - mean).square().sum(1).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row, gold in enumerate(held.states.explanations):
            content = {
                "document": held.names[row], "kind": held.kinds[row], "deviation": round(deviation[row], 2),
                "errors": {name: round(values[row], 2) for name, values in errors.items()},
                "claims": claims(said["explanation"][row], gold), "said": said["explanation"][row],
                "gold": gold,
                **{f"{name}_claims": claims(said[name][row], gold) for name in ("beams", "best")},
                **{name: said[name][row] for name in ("beams", "best", *SURE_NAMES.values())},
            }  # fmt: skip
            file.write(json.dumps(content, ensure_ascii=False) + "\n")
