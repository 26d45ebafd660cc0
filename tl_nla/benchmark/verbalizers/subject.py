"""The model in question with its texts: states, what follows them, and a split that only the seed's owner knows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.amounts import check_count
from tl_nla.benchmark.verbalizers.rows import Material, Rows
from tl_nla.data import Document
from tl_nla.data.explained import StateCapture, explain_states
from tl_nla.errors import InputError
from tl_nla.explainers import Explainer, Moment
from tl_nla.explainers.mechanical import recent_and_next
from tl_nla.model.narrow import chosen_logits
from tl_nla.model.probe import device_of
from tl_nla.model.targets import Target
from tl_nla.model.text import TextEncoder

FOLLOWING = 32
"""Tokens that a continuation has."""
CONTEXT = 16
"""Tokens of a piece of the text before."""
_MIN_POSITION = CONTEXT
_LEAST = {"train": 2, "calibration": 2, "test": 2, "longest": _MIN_POSITION + FOLLOWING + 2}
_PIECES, _TEXTS_A_PIECE = 3, 25
"""Pieces of one document that are tested at most, and texts for each piece that is allowed: documents stay many."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        train: documents that readers, probes and lenses are fitted on.
        calibration: documents that the mixing weights of readers are fitted on.
        test: documents that are scored.
        positions: of a tested document.
        train_positions: of a training document.
        planted: texts with planted facts.
        silent: vectors of each kind that hold nothing.
        longest: tokens of a text that are read at most; texts of a plug-in are read as they are.
    """

    train: int = 500
    calibration: int = 40
    test: int = 75
    positions: int = 2
    train_positions: int = 4
    planted: int = 100
    silent: int = 40
    longest: int = 128

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            check_count(name, getattr(self, name), _LEAST.get(name, 1))


@dataclass(frozen=True)
class Subject:
    """A model, one of its layers, and texts that no verbalizer was trained on.

    Attributes:
        target: the model.
        layer: K, whose block's output is told in words.
        train: what readers are fitted on.
        calibration: what mixing weights are fitted on.
        test: what is scored.
        documents: the tested ones.
        sizes: how much is measured.
        seed: the private one.
        train_documents: the ones that readers are fitted on.
    """

    target: Target
    layer: int
    train: Material
    calibration: Material
    test: Material
    documents: list[Document]
    sizes: Sizes
    seed: int
    train_documents: list[Document]

    @property
    def site(self) -> str:
        """Hook point of the states."""
        return f"blocks.{self.layer}.hook_resid_post"

    @property
    def tokenizer(self) -> Any:
        """Of the model."""
        return self.target.tokenizer


def private_split(documents: Sequence[Document], sizes: Sizes, seed: int) -> list[list[Document]]:
    """Draw texts for training, calibration and test; another seed draws others.

    Texts that are pieces of one document (:func:`whole_document`) are never in two parts.

    Raises:
        InputError: when there are too few.
    """

    def drawn(document: Document) -> str:
        return hashlib.sha256(f"{seed}/{document.id}/{document.text}".encode("utf-8", "replace")).hexdigest()

    pieces: dict[str, list[Document]] = {}
    for document in sorted(documents, key=drawn):
        pieces.setdefault(whole_document(document), []).append(document)
    left, parts = iter(pieces.values()), list[list[Document]]()
    wanted = [sizes.train, sizes.calibration, sizes.test]
    for count in wanted[::-1]:  # the test first, so that it does not change with the others' sizes
        part, most = list[Document](), min(_PIECES, max(1, count // _TEXTS_A_PIECE))
        while len(part) < count and (own := next(left, None)) is not None:
            part += own if len(parts) == len(wanted) - 1 else own[:most]
        if len(part) < count:
            raise InputError(
                f"{len(documents)} usable texts of {len(pieces)} documents for {' + '.join(map(str, wanted))} (train, "
                f"calibration, test); give more texts of {_LEAST['longest']} tokens or more, or a smaller --size"
            )
        parts.append(part[:count])
    return parts[::-1]


def whole_document(document: Document) -> str:
    """The document that a text is a piece of, where its row says so in a field ``document``; else its own name."""
    return str(document.notes.get("document", document.id))


def clusters(documents: Sequence[Document], rows: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """For rows of texts, the numbers of the documents that the texts are pieces of."""
    number: dict[str, int] = {}
    own = [number.setdefault(whole_document(document), len(number)) for document in documents]
    return torch.tensor(own)[rows]


def cut_texts(documents: Sequence[Document], tokenizer: Any, longest: int) -> list[Document]:
    """The first tokens of each text."""
    found = []
    for document in documents:
        ids = tokenizer.encode(document.text, add_special_tokens=False)
        text = document.text if len(ids) <= longest else str(tokenizer.decode(ids[:longest]))
        found.append(replace(document, text=text))
    return found


def capture_subject(
    target: Target, layer: int, documents: Sequence[Document], sizes: Sizes, seed: int,
    explainer: Explainer | None = None,
) -> Subject:  # fmt: skip
    """Split the texts and read the model's states in them.

    Args:
        target: the model.
        layer: K.
        documents: texts that the verbalizer was not trained on.
        sizes: how much.
        seed: of the private split, the positions and every draw.
        explainer: writes the gold words; the recent words and the model's own guesses when ``None``.

    Raises:
        InputError: when there are too few texts that are long enough.
    """
    encode, context = TextEncoder(target.tokenizer, target.model), int(target.model.cfg.n_ctx)
    usable = [one for one in documents if len(encode(one.text).cut(context)) > _MIN_POSITION + FOLLOWING + 1]
    parts = private_split(usable, sizes, seed)
    site = f"blocks.{layer}.hook_resid_post"
    how = _Capture(target, site, seed, _WithGuesses(explainer))
    counts = (sizes.train_positions, 1, sizes.positions)
    train, calibration, test = [
        _capture(how, name, part, count, name != "train")
        for name, part, count in zip(("train", "calibration", "test"), parts, counts, strict=True)
    ]
    return Subject(target, layer, train, calibration, test, parts[2], sizes, seed, parts[0])


@dataclass(frozen=True)
class _Capture:
    target: Target
    site: str
    seed: int
    explainer: "_WithGuesses"


class _WithGuesses:
    """An explainer at positions that something follows; it keeps the mechanical words beside its own."""

    def __init__(self, explainer: Explainer | None) -> None:
        self.explainer = explainer

    def positions(self, document: Any, tokens: int) -> list[int]:
        return list(range(_MIN_POSITION, tokens - FOLLOWING))

    def __call__(self, document: str, moments: Sequence[Moment]) -> list[tuple[str, Any]]:
        plain = [" ".join(recent_and_next(moment.recent, moment.guesses)) for moment in moments]
        own = [(text, None) for text in plain] if self.explainer is None else self.explainer(document, moments)
        return [(text, (truth, mechanical)) for (text, truth), mechanical in zip(own, plain, strict=True)]


def _capture(how: _Capture, name: str, documents: list[Document], count: int, predicted: bool) -> Material:
    model, tokenizer = how.target.model, how.target.tokenizer
    capture = StateCapture(how.seed, explainer=how.explainer)
    states = explain_states(model, tokenizer, documents, how.site, count, _MIN_POSITION, capture)
    encode, context = TextEncoder(tokenizer, model), int(model.cfg.n_ctx)
    encoded = [encode(document.text).cut(context).ids for document in documents]
    places = list(zip(states.document.tolist(), states.position.tolist(), strict=True))
    past = [encoded[row][: position + 1] for row, position in places]
    following = [encoded[row][position + 1 : position + 1 + FOLLOWING] for row, position in places]
    rows = Rows(name, states.acts, past, clusters(documents, states.document))
    truths, recent = zip(*states.truths, strict=True)
    logprobs = predictions(model, past) if predicted else None
    return Material(rows, following, states.explanations, list(truths), list(recent), logprobs)


def predictions(model: Any, texts: Sequence[list[int]], batch_size: int = 32) -> torch.Tensor:
    """The model's log-probabilities behind each text, ``[n, vocab]``, float32."""
    found: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for batch in batches:
        width = max(len(texts[row]) for row in batch)
        # Right padding of a causal model needs no mask: nothing behind a position can reach it.
        tokens = torch.tensor([texts[row] + texts[row][-1:] * (width - len(texts[row])) for row in batch])
        chosen = torch.zeros(tokens.shape, dtype=torch.bool)
        for place, row in enumerate(batch):
            chosen[place, len(texts[row]) - 1] = True
        logits = chosen_logits(model, tokens.to(device_of(model)), chosen.to(device_of(model)))
        for place, row in enumerate(batch):
            found[row] = logits[place].float().log_softmax(-1).cpu()
    return torch.stack(found)
