"""Scores of one pair on held-out states: who can read its words, what survives a change of them, and which are true."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2_nla.score import HeldOut, another_document, claims
from tl_nla.faithfulness.short_claims import short_parts
from tl_nla.metrics import normalise

CAP = 40
CHANGES = ("wording", "next words swapped", "words shuffled", "older words shuffled")
CLAIMS = ("last 1", "last 2", "next", "recent, any place")


def changed(text: str, how: str, seed: int) -> str:
    """An explanation in another form.

    The first two changes keep its meaning. The others move the recent words; the last of them leaves the last word in
    its place, which the reconstructor reads at the end.
    """
    following, recent = short_parts(text)
    if how == "wording":
        return f"Probably {' or '.join(following)} follows. It was read: {' '.join(recent)}"
    if how == "next words swapped":
        following = following[::-1]
    else:
        kept = recent[-1:] if how == "older words shuffled" else []
        moved = recent[: len(recent) - len(kept)]
        draws = torch.Generator().manual_seed(seed)
        recent = [*(moved[place] for place in torch.randperm(len(moved), generator=draws).tolist()), *kept]
    return f"Next: {', '.join(following)}. Recent: {' '.join(recent)}"


@torch.no_grad()
def pair_rows(nla: Any, held: HeldOut, readers: Mapping[str, Any], own: str) -> list[dict[str, Any]]:
    """One row a state: squared errors of what each reader reads, which claims are true, and the words.

    Args:
        nla: the pair.
        held: states with the explainer's texts.
        readers: reconstructors by name.
        own: which of them is the pair's own; changes of the words are read by it.
    """
    gold, acts = held.states.explanations, held.states.acts
    said = nla.verbalize(acts, max_new_tokens=CAP, batch_size=96)
    deviation = (normalise(acts) - nla.mean).square().sum(1).tolist()
    errors: dict[str, list[float]] = {}
    for name, reader in readers.items():
        errors[f"said/{name}"] = _errors(reader, said, acts)
        errors[f"gold/{name}"] = _errors(reader, gold, acts)
    for how in CHANGES:
        for side, texts in (("said", said), ("gold", gold)):
            moved = [changed(text, how, row) for row, text in enumerate(texts)]
            errors[f"{side}, {how}/{own}"] = _errors(readers[own], moved, acts)
    others = another_document(held.names)
    errors[f"shuffled/{own}"] = _errors(readers[own], [said[row] for row in others], acts)
    rows = []
    for row, text in enumerate(said):
        found = claims(text, gold[row])
        rows.append({"document": held.names[row], "deviation": round(deviation[row], 2),
                     "errors": {name: round(values[row], 2) for name, values in errors.items()},
                     "claims": {name: round(found[name], 3) for name in CLAIMS if name in found},
                     "words": len(text.split()), "said": text})  # fmt: skip
    return rows


def _errors(reader: Any, texts: Sequence[str], acts: Tensor) -> list[float]:
    guesses = normalise(reader.reconstruct(list(texts), 96).float())
    return [float(one) for one in (guesses - normalise(acts)).square().sum(1)]
