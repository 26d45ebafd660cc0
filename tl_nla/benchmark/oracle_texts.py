"""What the reader of each arm is given to read: explanations, raw context, both, or less.

Every arm is told which component wrote, so that no arm wins by naming it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tl_nla.benchmark.arms import shuffle_across_documents
from tl_nla.data import Document
from tl_nla.errors import unknown
from tl_nla.model.families import context_length
from tl_nla.model.sites import Site
from tl_nla.model.text import TextEncoder, TextTokens
from tl_nla.nla.prompts import reconstructor_ids
from tl_nla.oracle import Label, LabelledWrites, label_text
from tl_nla.oracle.labels import Lens, Vocabulary, write_effects
from tl_nla.oracle.texts import component_words

TEXT_ARMS = ("gold", "cat", "cat_and_explanation", "cat_and_shuffled", "state")
"""Arms whose text has a reader of its own, trained alike."""
_SPECIAL_TOKENS = 8
"""More than any tokenizer puts around a text."""
UNTOLD_SHARE = 0.1
"""Share of training explanations that do not name the component, so that untrained components can be read."""


@dataclass(frozen=True)
class MadeTexts:
    """Texts of rows that were made before.

    Attributes:
        explanations: generated explanations in the place of the labels.
        states: label texts of the states before the writes (:func:`state_texts`), for the arm ``state``.
    """

    explanations: Sequence[str] | None = None
    states: Sequence[str] | None = None


def arm_texts(
    arm: str, writes: LabelledWrites, encode: TextEncoder, documents: Sequence[Document], seed: int, training: bool,
    made: MadeTexts | None = None,
) -> list[str]:  # fmt: skip
    """The texts of one arm.

    Args:
        arm: one of ``TEXT_ARMS``.
        writes: the rows.
        encode: of the model that was read.
        documents: what the rows' ``document`` counts in.
        seed: of the shuffle and of what is left untold.
        training: leave the component out of some explanations.
        made: generated explanations, and texts of the states before.

    Raises:
        InputError: for an unknown arm.
    """
    made = made or MadeTexts()
    if arm not in TEXT_ARMS:
        raise unknown("arm with a reader of its own", arm, TEXT_ARMS)
    labels = [writes.text(row) for row in range(len(writes))]
    said = labels if made.explanations is None else list(made.explanations)
    if arm == "gold":
        return _partly_untold(said, writes, seed) if training else said
    if arm == "state":
        return list(made.states or [])
    budgets = [len(encode.tokenizer.encode(f" {text}", add_special_tokens=False)) for text in said]
    contexts = raw_contexts(writes, encode, documents, budgets)
    names = [component_words(site) or "It" for site in writes.sites]
    told = [f"{names[site]} read{context}" for site, context in zip(writes.site.tolist(), contexts, strict=True)]
    if arm == "cat":
        return told
    if arm == "cat_and_shuffled":
        said = [said[row] for row in shuffled_rows(writes, seed).tolist()]
    return [f"{context}; {text}" for context, text in zip(told, said, strict=True)]


def raw_contexts(
    writes: LabelledWrites, encode: TextEncoder, documents: Sequence[Document], budgets: Sequence[int]
) -> list[str]:
    """For each row the last tokens of the text up to its position, ``budgets[row]`` of them at most."""
    texts = [encode.tokenizer.decode(seen) for seen in context_ids(writes, encode, documents, budgets)]
    return [text if text.startswith(" ") else f" {text}" for text in texts]


def context_ids(
    writes: LabelledWrites, encode: TextEncoder, documents: Sequence[Document], budgets: Sequence[int]
) -> list[list[int]]:
    """For each row the ids of its last ``budgets[row]`` tokens up to its position, without an added begin token."""
    known: dict[int, TextTokens] = {}
    found = []
    for number, position, budget in zip(writes.document.tolist(), writes.position.tolist(), budgets, strict=True):
        if number not in known:
            known[number] = encode(documents[number].text)
        found.append(known[number].ids[max(known[number].added, position + 1 - budget) : position + 1])
    return found


def sum_budgets(writes: LabelledWrites, said: Sequence[str], tokenizer: Any) -> dict[int, int]:
    """For the row of each attention how many tokens the texts of all its heads have together."""
    parsed = [Site.parse(site) for site in writes.sites]
    places = zip(writes.document.tolist(), writes.position.tolist(), writes.site.tolist(), strict=True)
    totals: dict[tuple[int, int, int], int] = {}
    attentions: dict[int, tuple[int, int, int]] = {}
    for row, (document, position, site) in enumerate(places):
        place = document, position, int(parsed[site].layer or 0)
        if parsed[site].kind == "head":
            count = len(tokenizer.encode(f" {said[row]}", add_special_tokens=False))
            totals[place] = totals.get(place, 0) + count
        elif parsed[site].kind == "attn":
            attentions[row] = place
    return {row: totals[place] for row, place in attentions.items() if place in totals}


def long_context_texts(
    writes: LabelledWrites, said: Sequence[str], encode: TextEncoder, documents: Sequence[Document]
) -> dict[int, str]:
    """For the row of each attention its name and as many tokens of context as its heads' texts have together."""
    budgets = sum_budgets(writes, said, encode.tokenizer)
    chosen = writes.select(torch.tensor(list(budgets), dtype=torch.long))
    contexts = raw_contexts(chosen, encode, documents, list(budgets.values()))
    names = [component_words(site) or "It" for site in writes.sites]
    return {
        row: f"{names[int(writes.site[row])]} read{context}" for row, context in zip(budgets, contexts, strict=True)
    }


def readable(reconstructor: Any, texts: Sequence[str]) -> list[str]:
    """Texts cut at the end where they are longer than the reconstructor's context (words of an untrained reader)."""
    if reconstructor.backbone is None:  # no language model reads the texts
        return list(texts)
    limit = context_length(reconstructor.backbone)
    if limit is None:
        return list(texts)
    # No token is shorter than a byte, so most texts need not be encoded to know that they fit.
    sure = limit - len(reconstructor.template.encode()) - _SPECIAL_TOKENS
    fitting = []
    for text in texts:
        kept = text
        while len(kept.encode()) > sure and _prompt_length(reconstructor, kept) > limit:
            kept = kept[: len(kept) * 9 // 10]
        fitting.append(kept)
    return fitting


def _prompt_length(reconstructor: Any, text: str) -> int:
    return len(reconstructor_ids(reconstructor.tokenizer, reconstructor.template, [text], reconstructor.special)[0])


def shuffled_rows(writes: LabelledWrites, seed: int) -> Tensor:
    """For every row a row of the same component and another document."""
    other = torch.arange(len(writes))
    for index in range(len(writes.sites)):
        rows = torch.nonzero(writes.site == index).flatten()
        if len(rows):
            other[rows] = rows[shuffle_across_documents(writes.document[rows], seed)]
    return other


def state_texts(writes: LabelledWrites, lens: Lens, vocabulary: Vocabulary, top_k: int) -> list[str]:
    """What the state before each write promotes and suppresses, in the words of an explanation."""
    told = write_effects(lens, writes.before, writes.before, vocabulary, top_k)
    sides = zip(vocabulary.words(told.promoted), vocabulary.words(told.suppressed), strict=True)
    names = [component_words(site) for site in writes.sites]
    return [label_text(Label(tuple(up), tuple(down), component=names[site]))
            for (up, down), site in zip(sides, writes.site.tolist(), strict=True)]  # fmt: skip


def _partly_untold(texts: list[str], writes: LabelledWrites, seed: int) -> list[str]:
    draw = random.Random(f"untold/{seed}")
    return [label_text(replace(writes.labels[row], component=None)) if draw.random() < UNTOLD_SHARE else text
            for row, text in enumerate(texts)]  # fmt: skip
