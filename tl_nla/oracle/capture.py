"""Writes of a model on documents, each with its labels in words."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.amounts import check_counts
from tl_nla.attribution.few_columns import effects_at
from tl_nla.data import Document
from tl_nla.data.documents import check_documents
from tl_nla.data.progress import told
from tl_nla.errors import InputError, unknown
from tl_nla.explainers import Explainer
from tl_nla.model.memory import fitting_batches
from tl_nla.model.probe import device_of
from tl_nla.model.reading import Reading, read
from tl_nla.model.sites import Site
from tl_nla.model.text import TextEncoder
from tl_nla.oracle.capture_words import SHARE_FLOOR, in_words, source_words
from tl_nla.oracle.explained_writes import explain_writes, explained_places
from tl_nla.oracle.labels import (
    HeadSources,
    Lens,
    StrengthReference,
    Vocabulary,
    skip_labels,
    write_effects,
)
from tl_nla.oracle.labels.sources import SourceWatch
from tl_nla.oracle.questions import EXPLAIN, LEVELS, Answer, make_answer
from tl_nla.oracle.texts import Label, component_words, label_text

_PASS = 2**26
"""Bytes that the activations of one pass may take: sources and skips hold several times as much beside them."""

_TOGETHER = 2**22
"""Numbers of writes that are labelled together."""

_POOL = 2
"""Columns kept for each source that is named: several of the strongest may hold the same word."""


@dataclass(frozen=True)
class CaptureConfig:
    """What is captured and told.

    Attributes:
        positions_per_document: positions drawn from each document.
        top_k: tokens named on each side.
        sources: sources named by an explanation, and on each side of the distance limit by an answer.
        distant_floor: smallest share of a distant source that the text of an answer names; those below
            ``SHARE_FLOOR`` are ``weaker`` ones. A verbalizer taught without them says "none" whenever it is unsure, and
            names one word where it could have named three.
        skips: whether the ``skip`` question is labelled (about one more forward pass for each component).
        seed: of the drawn positions.
        batch_size: documents a forward pass at most; long ones go through in smaller batches.
        prepend_bos: see :class:`tl_nla.model.text.TextEncoder`.
        levels: questions of :data:`tl_nla.oracle.questions.LEVELS` that are answered, too, such as ``"alignment"``.
        explainer: writes the explanations in the place of the label texts (:data:`tl_nla.explainers.Explainer`);
            questions are answered by labels all the same.
    """

    positions_per_document: int = 4
    top_k: int = 4
    sources: int = 3
    distant_floor: float = 0.01
    skips: bool = True
    seed: int = 0
    batch_size: int = 16
    prepend_bos: bool | None = None
    levels: tuple[str, ...] = ()
    explainer: Explainer | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_counts(self, "positions_per_document", "top_k", "sources", "batch_size")
        for name in self.levels:
            if name not in LEVELS:
                raise unknown("question with a few answers", name, LEVELS)
        if not 0 < self.distant_floor <= SHARE_FLOOR:
            raise InputError(f"distant_floor is {self.distant_floor}; allowed: a share above 0, at most {SHARE_FLOOR}")


@dataclass(frozen=True)
class LabelledWrites:
    """Writes with labels, site by site within each batch of documents.

    Attributes:
        before: states that the writes are added to, float32.
        write: the writes, float32.
        labels: what each does; without strength until :meth:`with_strength`.
        answers: the right answer to each question that has one.
        sites: the sites' texts.
        site: index into ``sites``.
        document: index of the document.
        position: token position, counted from the begin token where there is one.
        texts: explanations in the place of the label texts; ``None`` where labels are told.
    """

    before: Float[Tensor, "n d_model"]
    write: Float[Tensor, "n d_model"]
    labels: list[Label]
    answers: list[dict[str, Answer]]
    sites: tuple[str, ...]
    site: Int[Tensor, " n"]
    document: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    texts: list[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def text(self, row: int, question: str = EXPLAIN) -> str:
        """The right words for a row."""
        if question == EXPLAIN and self.texts is not None:
            return self.texts[row]
        return label_text(self.labels[row]) if question == EXPLAIN else self.answers[row][question].text

    def reference(self) -> StrengthReference:
        """How strong the writes of each site are here; measure it on training documents only."""
        pairs = {name: (self.write[rows], self.before[rows]) for i, name in enumerate(self.sites)
                 if len(rows := torch.nonzero(self.site == i).flatten())}  # fmt: skip
        return StrengthReference.measure(pairs)

    def with_strength(self, reference: StrengthReference) -> "LabelledWrites":
        """The same writes with their strength told."""
        steps = reference.step(self.write, self.before).tolist()
        labels = [replace(label, strength=step) for label, step in zip(self.labels, steps, strict=True)]
        return replace(self, labels=labels)

    @classmethod
    def join(cls, parts: "Sequence[LabelledWrites]") -> "LabelledWrites":
        """Rows of several captures of the same sites, one behind the other; documents are numbered on.

        Raises:
            InputError: when there are none, or their sites differ.
        """
        if not parts or len({part.sites for part in parts}) > 1:
            raise InputError("joining needs captures of the same sites; capture each with the same list")
        documents, seen = [], 0
        for part in parts:
            documents.append(part.document + seen)
            seen += int(part.document.max()) + 1
        named = {name: torch.cat([getattr(part, name) for part in parts])
                 for name in ("before", "write", "site", "position")}  # fmt: skip
        return cls(labels=[label for part in parts for label in part.labels],
                   answers=[answer for part in parts for answer in part.answers], sites=parts[0].sites,
                   document=torch.cat(documents), texts=joined_texts(parts), **named)  # fmt: skip

    def select(self, rows: Int[Tensor, " m"]) -> "LabelledWrites":
        """Some of the rows."""
        chosen = rows.tolist()
        return LabelledWrites(
            self.before[rows], self.write[rows], [self.labels[i] for i in chosen], [self.answers[i] for i in chosen],
            self.sites, self.site[rows], self.document[rows], self.position[rows],
            None if self.texts is None else [self.texts[i] for i in chosen],
        )  # fmt: skip


def joined_texts(parts: Sequence[LabelledWrites]) -> list[str] | None:
    """Explanations of several captures, one behind the other; ``None`` where one of them tells labels."""
    if any(part.texts is None for part in parts):
        return None
    return [text for part in parts for text in part.texts or []]


def capture_writes(
    model: Any, tokenizer: Any, documents: Sequence[Document], sites: Sequence[Site | str],
    config: CaptureConfig | None = None, vocabulary: Vocabulary | None = None,
) -> LabelledWrites:  # fmt: skip
    """Read the writes at several sites on documents and label them.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokenizer: its tokenizer.
        documents: the texts; longer ones are cut to the model's context.
        sites: writes: heads, attentions, MLPs, blocks, spans.
        config: what is captured.
        vocabulary: the tokens that labels may name, such as :func:`tl_nla.oracle.labels.expected_vocabulary` of the
            training documents; every printable token when ``None``.

    Returns:
        One row for each document, drawn position and site. Labels depend on nothing behind the position.

    Raises:
        InputError: for sites that are states or do not exist, or when no document is long enough.
    """
    config = config or CaptureConfig()
    check_documents(documents)
    known = model.hook_dict
    chosen = [Site.parse(site).validate(model, known) for site in sites]
    if not chosen or not all(site.is_write for site in chosen):
        raise InputError(f"sites are {[str(site) for site in chosen]}; give one or more writes, such as 'blocks.0.mlp'")
    lens = Lens.of(model)
    vocabulary = vocabulary or Vocabulary.of(tokenizer, lens.weight.shape[1])
    rows = drawn_rows(model, tokenizer, documents, config)
    parts = []
    batches = fitting_batches(model, [len(ids) for _, ids, _ in rows], config.batch_size, _PASS)
    for batch in told(batches, "capturing writes"):
        parts += _capture_batch(model, [rows[row] for row in batch], chosen, config, lens, vocabulary)
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts])
                              for name in ("before", "write", "site", "document", "position")}  # fmt: skip
    labels = [label for part in parts for label in part.labels]
    found = LabelledWrites(labels=labels, answers=[a for part in parts for a in part.answers],
                           sites=tuple(map(str, chosen)), **joined)  # fmt: skip
    if config.explainer is None:
        return found
    return explain_writes(found, documents, TextEncoder(tokenizer, model, config.prepend_bos), config.explainer)


def drawn_rows(
    model: Any, tokenizer: Any, documents: Sequence[Document], config: CaptureConfig
) -> list[tuple[int, list[int], list[int]]]:
    """Number, token ids and drawn positions of each document that has any, shortest first.

    The ids end with the last drawn position: nothing behind it enters any label.

    Raises:
        InputError: when no document is long enough.
    """
    encode, context = TextEncoder(tokenizer, model, config.prepend_bos), int(model.cfg.n_ctx)
    rows = []
    for number, document in enumerate(documents):
        tokens = encode(document.text).cut(context)
        if places := _draw(explained_places(config.explainer, document, tokens), config, document.id):
            rows.append((number, tokens.ids[: max(places) + 1], places))
    if not rows:
        why = "no document has two tokens" if config.explainer is None else "no document has a token to explain"
        raise InputError(f"{why}; give longer texts")
    return sorted(rows, key=lambda row: len(row[1]))


def _draw(places: list[int], config: CaptureConfig, name: str) -> list[int]:
    count = min(config.positions_per_document, len(places))
    return sorted(random.Random(f"{config.seed}/{name}").sample(places, count))


def _capture_batch(
    model: Any, rows: list[tuple[int, list[int], list[int]]], sites: list[Site], config: CaptureConfig, lens: Lens,
    vocabulary: Vocabulary,
) -> list[LabelledWrites]:  # fmt: skip
    width = max(len(ids) for _, ids, _ in rows)
    # Right padding of a causal model needs no mask: nothing behind a position can reach it.
    device = device_of(model)
    tokens = torch.tensor([ids + [ids[-1]] * (width - len(ids)) for _, ids, _ in rows], device=device)
    mask = torch.zeros(tokens.shape, dtype=torch.bool, device=device)
    for row, (_, _, places) in enumerate(rows):
        mask[row, places] = True
    columns = sorted({place for _, _, places in rows for place in places})
    watch = _watch(model, tokens, sites, config, columns)
    reading = read(model, tokens, sites, mask, also=() if watch is None else watch.pairs)
    heads, pooled = _found(watch, reading)
    numbers = torch.tensor([number for number, _, _ in rows], device=device)
    skipped = [site for site in sites if site.kind != "span"]
    effects = None
    if config.skips and skipped:
        effects = effects_at(model, tokens, skipped, columns, top_k=4)
    place = torch.searchsorted(torch.tensor(columns, device=reading.column.device), reading.column)
    parts = []
    for index, (site, before, write, up, down) in enumerate(_effects(reading, sites, lens, vocabulary, config.top_k)):
        found = heads if site.kind == "head" else pooled if site.kind == "attn" else None
        sources = None if found is None else source_words(found, site, (reading, columns), vocabulary, config)
        skips = None if effects is None or site.kind == "span" else skip_labels(effects, site, reading.batch, place)
        labels, answers = in_words(component_words(site), (up, down), sources, skips, vocabulary)
        for name in config.levels:
            for answer, words in zip(answers, LEVELS[name].told(write, before), strict=True):
                answer[name] = make_answer(name, words)
        parts.append(LabelledWrites(
            before.cpu(), write.cpu(), labels, answers, (), torch.full((len(reading),), index),
            numbers[reading.batch].cpu(), reading.column.cpu(),
        ))  # fmt: skip
    return parts


_Told = tuple[Site, Tensor, Tensor, list[list[str]], list[list[str]]]


def _effects(reading: Reading, sites: list[Site], lens: Lens, vocabulary: Vocabulary, top_k: int) -> Iterator[_Told]:
    """Each site with the states before its writes, these, and the words that they promote and suppress.

    The unembedding is read once for as many sites as may be held together.
    """
    rows = len(reading)
    size = max(1, _TOGETHER // (rows * len(lens.weight)))
    for first in range(0, len(sites), size):
        some = sites[first : first + size]
        before, write = [reading.before(site).float() for site in some], [reading[site].float() for site in some]
        told_of = write_effects(lens, torch.cat(write), torch.cat(before), vocabulary, top_k)
        up, down = (vocabulary.words(ids) for ids in (told_of.promoted, told_of.suppressed))
        for number, site in enumerate(some):
            own = slice(number * rows, (number + 1) * rows)
            yield site, before[number], write[number], up[own], down[own]


def _watch(
    model: Any, tokens: Tensor, sites: list[Site], config: CaptureConfig, columns: list[int]
) -> SourceWatch | None:
    """What watches the pass for what heads and attentions read."""
    heads, attentions = (
        sorted({int(site.layer or 0) for site in sites if site.kind == kind and site.part == "attn"})
        for kind in ("head", "attn")
    )
    if not heads and not attentions:
        return None
    real = torch.ones_like(tokens, dtype=torch.bool)
    return SourceWatch(model, real, heads, attentions, _POOL * config.sources, columns)


def _found(watch: SourceWatch | None, reading: Reading) -> tuple[HeadSources | None, HeadSources | None]:
    """What was seen, the sums of heads handed to the reading: they were solved at its rows among others."""
    if watch is None:
        return None, None
    found = watch.found()
    place = torch.searchsorted(torch.tensor(watch.columns, device=reading.column.device), reading.column)
    rows = reading.batch * len(watch.columns) + place
    reading.sums.update({key: heads.rows(rows.to(heads.z.device)) for key, heads in watch.sums.items()})
    return found
