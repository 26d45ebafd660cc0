"""Explanations of writes by an explainer, in the place of their label texts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tl_nla.data import Document
from tl_nla.explainers import Explainer, Moment
from tl_nla.explainers.base import PlacedExplainer, explain_documents
from tl_nla.model.control import cleaner, control_ids, without_control
from tl_nla.model.text import TextEncoder, TextTokens
from tl_nla.oracle.texts import label_text

if TYPE_CHECKING:
    from tl_nla.oracle.capture import LabelledWrites

_RECENT = 6


def explained_places(explainer: Explainer | None, document: Document, tokens: TextTokens) -> list[int]:
    """Positions of a document whose writes can be explained, counted from the begin token where there is one.

    Args:
        explainer: of the writes; labels are told at any position when ``None``.
        document: the text.
        tokens: its tokens, cut to the model's context.
    """
    whole = list(range(1, len(tokens)))
    if not isinstance(explainer, PlacedExplainer):
        return whole
    return [place + tokens.added for place in explainer.positions(document, len(tokens) - tokens.added)]


def explain_writes(
    writes: "LabelledWrites", documents: Sequence[Document], encode: TextEncoder, explainer: Explainer
) -> "LabelledWrites":
    """The same writes with explanations of their own.

    The explainer is given a :class:`tl_nla.explainers.Moment` a write. It holds the text up to its position, the site,
    the write, the state before it, and the mechanical label. The model's guesses are not known there.

    Args:
        writes: as captured.
        documents: what their ``document`` counts in.
        encode: of the model that was read.
        explainer: writes the explanations.
    """
    rows: dict[int, list[int]] = {}
    for row, document in enumerate(writes.document.tolist()):
        rows.setdefault(document, []).append(row)
    asked = [(documents[number].text, _moments(writes, own, encode, documents[number].text))
             for number, own in rows.items()]  # fmt: skip
    texts, clean = [""] * len(writes), cleaner(encode.tokenizer)
    placed = isinstance(explainer, PlacedExplainer)  # what documents bring is refused later, not changed
    for own, said in zip(rows.values(), explain_documents(explainer, asked), strict=True):
        for row, (text, _) in zip(own, said, strict=True):
            texts[row] = text if placed else clean(text)
    return replace(writes, texts=texts)


def _moments(writes: "LabelledWrites", rows: list[int], encode: TextEncoder, text: str) -> list[Moment]:
    tokens, control = encode(text), control_ids(encode.tokenizer)
    moments = []
    for row in rows:
        position = int(writes.position[row])
        told = tokens.ids[tokens.added : position + 1]
        last = encode.tokenizer.decode([token for token in told if token not in control][-_RECENT:])
        moments.append(
            Moment(
                text=encode.tokenizer.decode(told),
                recent=without_control(str(last)),
                guesses=[],
                act=writes.before[row],
                position=position - tokens.added,
                site=writes.sites[int(writes.site[row])],
                write=writes.write[row],
                label=label_text(writes.labels[row]),
            )
        )
    return moments
