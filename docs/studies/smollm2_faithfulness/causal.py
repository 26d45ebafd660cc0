"""Does the model do what an edited claim says? The claim is edited, read back, and put into the state as a difference.

The truth beside it: the text itself is edited in the same place, and the model reads it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docs.studies.real_states import LayerStates
from docs.studies.smollm2_nla.score import another_document
from tl_nla.faithfulness.causal import claimed_tokens, outputs_after
from tl_nla.faithfulness.short_claims import short_parts
from tl_nla.metrics import cosine, normalise
from tl_nla.model.reading import read
from tl_nla.model.text import TextEncoder

KINDS = ("last 1", "last 2", "next")
_PLAIN = re.compile(r"^[A-Za-z][a-z]+$")


@dataclass(frozen=True)
class ClaimEdit:
    """One claim that was edited.

    Attributes:
        row: of the states.
        kind: one of ``KINDS``.
        old: the word that was claimed.
        new: the word that is claimed now.
        said: the explanation with the new word.
        ids: the text with the new word in the same place; as it was for a next word.
        right: whether the claim was true before.
    """

    row: int
    kind: str
    old: str
    new: str
    said: str
    ids: list[int]
    right: bool


def claim_edits(smol: Any, states: LayerStates, said: Sequence[str]) -> list[ClaimEdit]:
    """Edits of the last word, the one before, and the next word; new words are those of another document's row."""
    encode = TextEncoder(smol.tokenizer, smol.model)
    gold = states.held.states.explanations
    others = another_document(states.held.names, seed=1)
    found = []
    for row, text in enumerate(said):
        (next_said, recent), (next_gold, recent_gold) = short_parts(text), short_parts(gold[row])
        next_new, recent_new = short_parts(gold[others[row]])
        whole = smol.tokenizer.decode(states.ids[row][1:])
        for place in (1, 2):
            if min(len(recent), len(recent_gold), len(recent_new)) < place:
                continue
            old, true, new = recent[-place], recent_gold[-place], recent_new[-place]
            if not (_PLAIN.match(true) and _PLAIN.match(new)) or new in (old, true):
                continue
            changed = [*recent[: len(recent) - place], new, *recent[len(recent) - place + 1 :]]
            ids = list(encode(_replaced(whole, place, new)).ids)
            told = f"Next: {', '.join(next_said)}. Recent: {' '.join(changed)}"
            found.append(ClaimEdit(row, f"last {place}", old, new, told, ids, old == true))
        if next_said and _PLAIN.match(next_new[0]) and next_new[0] not in (*next_said, *next_gold):
            told = f"Next: {next_new[0]}. Recent: {' '.join(recent)}"
            right = next_said[0] in next_gold
            found.append(ClaimEdit(row, "next", next_said[0], next_new[0], told, states.ids[row], right))
    return found


def _replaced(text: str, place: int, new: str) -> str:
    """A text with another word in the given place, counted from the end."""
    spots = list(re.finditer(r"\S+", text))
    spot = spots[-place]
    return text[: spot.start()] + new + text[spot.end() :]


def causal_rows(
    smol: Any, nla: Any, states: LayerStates, said: Sequence[str], edits: Sequence[ClaimEdit], seed: int = 0
) -> list[dict[str, Any]]:
    """What each edit does to the output, beside a random change (by the seed), another row's change, and the true one.

    ``open`` is the KL divergence between the output for the edited text and the model's own. ``closed`` is what each
    arm's change takes away of it. ``rise`` is the change of the new word's log-probability, for next words. All nats.
    """
    rows = torch.tensor([edit.row for edit in edits])
    acts = states.acts[nla.layer][rows]
    old, new = (normalise(nla.reconstruct(texts, 96).float()) for texts in (list(said), [edit.said for edit in edits]))
    scale = acts.norm(dim=1, keepdim=True) / acts.shape[1] ** 0.5
    words = (new - old[rows]) * scale
    drawn = torch.randn(words.shape, generator=torch.Generator().manual_seed(seed))
    goal = torch.stack([read(smol.model, torch.tensor([edit.ids]), [nla.site], -1)[nla.site][0].float()
                        for edit in edits])  # fmt: skip
    changes = {
        "words": words, "words, twice": 2 * words, "another_row": words[_other_rows(edits)],
        "random_direction": drawn * words.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True),
        "true_state": goal - acts,
    }  # fmt: skip
    texts, places = [states.ids[edit.row] for edit in edits], [len(states.ids[edit.row]) - 1 for edit in edits]
    clean, *moved = (outputs_after(smol.model, texts, places, nla.site, change, 16)
                     for change in (torch.zeros_like(words), *changes.values()))  # fmt: skip
    edited = outputs_after(smol.model, [edit.ids for edit in edits], [len(edit.ids) - 1 for edit in edits], nla.site,
                           torch.zeros_like(words), 16)  # fmt: skip
    tokens = claimed_tokens(smol.tokenizer, [edit.new for edit in edits])
    near = cosine(words, goal - acts)
    found = []
    for number, edit in enumerate(edits):
        row = {"document": states.held.names[edit.row], "kind": edit.kind, "right": edit.right, "old": edit.old,
               "new": edit.new, "size": round(float(words[number].norm() / acts[number].norm()), 3)}  # fmt: skip
        if edit.kind == "next":
            token = int(tokens[number])
            row["rise"] = {arm: round(float(side[number, token] - clean[number, token]), 3)
                           for arm, side in zip(changes, moved, strict=True) if arm != "true_state"}  # fmt: skip
        else:
            base = _divergence(edited[number], clean[number])
            row["cosine"] = round(float(near[number]), 3)
            row["open"] = round(base, 3)
            row["closed"] = {arm: round(base - _divergence(edited[number], side[number]), 3)
                             for arm, side in zip(changes, moved, strict=True)}  # fmt: skip
        found.append(row)
    return found


def _other_rows(edits: Sequence[ClaimEdit]) -> list[int]:
    """For each edit the next one of the same kind."""
    by_kind = {kind: [place for place, edit in enumerate(edits) if edit.kind == kind] for kind in KINDS}
    found = [0] * len(edits)
    for places in by_kind.values():
        for place, other in zip(places, places[1:] + places[:1], strict=True):
            found[place] = other
    return found


def _divergence(truth: Tensor, other: Tensor) -> float:
    return float((truth.exp() * (truth - other)).sum())
