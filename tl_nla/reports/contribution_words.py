"""The words of a contribution report: tokens read, promoted and suppressed, and explanations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.attribution.run_writes import RunWrites
from tl_nla.errors import InputError
from tl_nla.model.sites import Site
from tl_nla.oracle.known_sites import site_settings
from tl_nla.oracle.labels import Lens, Vocabulary, relative_norm, write_effects
from tl_nla.oracle.labels.sources import HeadSources, SourceWatch, without_values
from tl_nla.oracle.labels.vocabulary import decoded_tokens, numbered
from tl_nla.oracle.texts import Label, label_text

SHARE_FLOOR = 0.04
"""Sources with a smaller share are not named, as in the labels that oracles are taught."""
_SOURCES = 3
_JOINED = 3
_TOGETHER = 2**22
"""Numbers of writes that are told of at once."""
_KEPT = 2**24
"""Numbers of writes that a report keeps, for the projector; reports of more keep none."""


@dataclass(frozen=True)
class Told:
    """What is said of one write."""

    promoted: list[str]
    suppressed: list[str]
    sources: list[tuple[str, float]]
    source_positions: list[int]
    explanation: str


@dataclass(frozen=True)
class Texts:
    """Text of every token, space and all, and the words that may be named."""

    raw: tuple[str, ...]
    named: Vocabulary

    def name_of(self, token: int) -> str:
        """What a label calls a token; blank for control tokens, and for those that the model reads but never says."""
        return self.named.texts[token] if token < len(self.named.texts) else ""


@dataclass(frozen=True)
class Wording:
    """How the words of a report are made.

    Attributes:
        tokenizer: of the model; ``None`` names tokens by their ids.
        oracle: a diff oracle, or ``None`` for labels. A whole attention or block that the oracle was not trained on
            is explained by those of its parts whose writes are largest.
        top_k: tokens named on each side.
        vocabulary: the tokens that may be named.
        settings: for ``oracle.explain``.
    """

    tokenizer: Any
    oracle: Any
    top_k: int
    vocabulary: Vocabulary
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Read:
    """What heads and attentions read, by kind of site; and why it is not told where it is not."""

    found: dict[str, HeadSources]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """What is said of each site's writes, row by row, and of the embeddings.

    Attributes:
        vocabulary: texts of tokens.
        sites: what is said of each write.
        strengths: size of each write beside the state that it is added to.
        embed: what is said of the embeddings.
        writes: all of them in the order of the sites, float32; ``None`` where they would fill too much memory.
    """

    vocabulary: Texts
    sites: dict[str, list[Told]]
    strengths: dict[str, list[float]]
    embed: list[tuple[str, list[str], list[str]]] = field(default_factory=list)
    writes: Float[Tensor, "write d_model"] | None = None

    def texts_of(self, ids: Int[Tensor, " n"]) -> tuple[str, ...]:
        """Tokens as they stand, space and all."""
        return tuple(self.vocabulary.raw[i] for i in ids.tolist())


class ReadWatch:
    """Watches a pass of a prompt for what its heads and attentions read."""

    def __init__(self, model: Any, tokens: Int[Tensor, "1 pos"], sites: Sequence[Site], columns: Sequence[int]) -> None:
        wanted = sorted({int(site.layer or 0) for site in sites if site.kind == "head" and site.part == "attn"})
        known = model.hook_dict
        reasons = {layer: why for layer in wanted if (why := without_values(model, layer, known))}
        self.notes = tuple(f"what heads read is not told: {why}" for why in reasons.values())
        layers = [layer for layer in wanted if layer not in reasons]
        self.watch: SourceWatch | None = None
        if layers:
            try:
                real = torch.ones_like(tokens, dtype=torch.bool)
                self.watch = SourceWatch(model, real, layers, layers, _SOURCES, columns)
            except InputError as error:
                self.notes += (f"what heads read is not told: {error}",)

    def read(self) -> Read:
        """What was seen."""
        if self.watch is None:
            return Read({}, self.notes)
        try:
            single, whole = self.watch.found()
        except InputError as error:
            return Read({}, (*self.notes, f"what heads read is not told: {error}"))
        found = {"head": single, "attn": whole}
        return Read({kind: sources for kind, sources in found.items() if sources is not None}, self.notes)


def words_of(run: RunWrites, tokens: Int[Tensor, "1 pos"], read: Read, wording: Wording) -> Words:
    """Say what every write of a run does."""
    lens, ids = Lens.of(run.model), tokens[0].tolist()
    # Some models read more tokens than they predict.
    size = max(int(run.model.cfg.d_vocab), lens.weight.shape[1])
    texts = Texts(_raw_texts(wording.tokenizer, size), wording.vocabulary)
    listed = {kind: _Listed(sources) for kind, sources in read.found.items()}
    told: dict[str, list[Told]] = {}
    strengths: dict[str, list[float]] = {}
    embed: list[tuple[str, list[str], list[str]]] = []
    kept: list[Tensor] | None = [] if len(run.sites) * len(run) * len(lens.weight) <= _KEPT else None
    for some in _groups(run, len(lens.weight)):
        writes, states = [run.write(site) for site in some], [run.before(site) for site in some]
        first = [] if embed else [run.before(some[0])]
        effects = write_effects(lens, torch.cat([*first, *writes]), torch.cat([*first, *states]), wording.vocabulary,
                                wording.top_k)  # fmt: skip
        up, down = (wording.vocabulary.words(ids) for ids in (effects.promoted, effects.suppressed))
        rows = len(run)
        if first:
            embed = _embeddings(ids, run, texts, up[:rows], down[:rows])
            up, down = up[rows:], down[rows:]
        said = {} if wording.oracle is None else _asked(wording, some, writes, states)
        for number, site in enumerate(some):
            place = slice(number * rows, (number + 1) * rows)
            told[str(site)] = _told(site, run, ids, (up[place], down[place], said.get(str(site))), texts, listed)
            strengths[str(site)] = relative_norm(writes[number], states[number]).tolist()
            if kept is not None:
                kept.append(writes[number].cpu())
    if wording.oracle is not None:
        told |= {str(site): _composed(told, run, site) for site in run.sites if not _knows(wording.oracle, site)}
    return Words(texts, told, strengths, embed, None if kept is None else torch.cat(kept))


def _groups(run: RunWrites, width: int) -> Iterator[list[Site]]:
    """The sites in groups whose writes may be held together; the unembedding is read once for each."""
    size = max(1, _TOGETHER // (width * len(run)))
    for first in range(0, len(run.sites), size):
        yield list(run.sites[first : first + size])


def _told(
    site: Site, run: RunWrites, ids: Sequence[int], said: tuple[list[list[str]], list[list[str]], list[str] | None],
    texts: Texts, listed: Mapping[str, "_Listed"],
) -> list[Told]:  # fmt: skip
    up, down, explained = said
    reader = listed.get(site.kind) if site.kind == "attn" or site.part == "attn" else None
    sources = [([], []) for _ in up] if reader is None else reader.of(site, ids, texts)
    told_of = reader is not None and site.layer in reader.layers
    known = [[texts.name_of(ids[place]) for place in places] for _, places in sources]
    explained = explained if explained is not None else _labels(up, down, known if told_of else None)
    return [Told(up[row], down[row], *sources[row], explained[row]) for row in range(len(up))]


class _Listed:
    """Sources as lists: one look at the tensors for all sites and rows."""

    def __init__(self, found: HeadSources) -> None:
        self.layers = found.layers
        sides = ((found.distant, found.distant_weight), (found.local, found.local_weight))
        self.sides = [(columns[:, :, 0].tolist(), shares[:, :, 0].tolist()) for columns, shares in sides]

    def of(self, site: Site, ids: Sequence[int], texts: Texts) -> list[tuple[list[tuple[str, float]], list[int]]]:
        """For each row the tokens read and their columns, strongest first.

        The position itself and the first token are no sources.
        """
        if site.layer not in self.layers:
            return [([], []) for _ in self.sides[0][0][0][0]]
        layer, head = self.layers.index(site.layer), int(site.head or 0) if site.kind == "head" else 0
        rows = []
        for row in range(len(self.sides[0][0][layer][head])):
            pairs = [(share, int(source)) for columns, shares in self.sides
                     for source, share in zip(columns[layer][head][row], shares[layer][head][row], strict=True)
                     if share >= SHARE_FLOOR]  # fmt: skip
            pairs = sorted(pairs, reverse=True)[:_SOURCES]
            named = [(texts.raw[ids[source]], share) for share, source in pairs]
            rows.append((named, [source for _, source in pairs]))
        return rows


def _raw_texts(tokenizer: Any, size: int) -> tuple[str, ...]:
    if tokenizer is None:
        return numbered(size)
    decoded = decoded_tokens(tokenizer, size)
    return decoded + tuple(f"#{i}" for i in range(len(decoded), size))


def _asked(
    wording: Wording, sites: Sequence[Site], writes: Sequence[Tensor], states: Sequence[Tensor]
) -> dict[str, list[str]]:
    """The oracle's explanations of the writes it knows, in one batch; blank for the others."""
    rows = len(writes[0])
    known = [number for number, site in enumerate(sites) if _knows(wording.oracle, site)]
    said = {str(site): [""] * rows for site in sites}
    if not known:
        return said
    named = site_settings(wording.oracle, [sites[number] for number in known for _ in range(rows)])
    texts = wording.oracle.explain(
        torch.cat([writes[number] for number in known]), torch.cat([states[number] for number in known]),
        **{**named, **wording.settings},
    )  # fmt: skip
    return said | {str(sites[number]): texts[place * rows : (place + 1) * rows] for place, number in enumerate(known)}


def _labels(up: Sequence[list[str]], down: Sequence[list[str]], sources: Sequence[list[str]] | None) -> list[str]:
    """One label a row, without sources where none are known.

    A source without a text that may be named, such as a control token, is left out of it.
    """
    texts = []
    for row in range(len(up)):
        read = None if sources is None else tuple(dict.fromkeys(word for word in sources[row] if word))
        texts.append(label_text(Label(tuple(up[row]), tuple(down[row]), read)))
    return texts


def _knows(oracle: Any, site: Site) -> bool:
    """Whether an oracle was trained on a site: on single heads and MLPs always assumed."""
    if site.kind in ("head", "mlp", "mixer", "ple") or oracle.strength is None:
        return True
    return any(Site.parse(known).kind == site.kind for known in oracle.strength.quantiles)


def _composed(told: dict[str, list[Told]], run: RunWrites, site: Site) -> list[Told]:
    kinds = ("head", "mlp") if site.kind == "block" else ("head",)
    parts = [part for part in run.sites if part.layer == site.layer and part.kind in kinds]
    if not parts:
        return told[str(site)]
    sizes = torch.stack([run.write(part).norm(dim=-1) for part in parts])
    rows = []
    for row, whole in enumerate(told[str(site)]):
        strongest = sizes[:, row].argsort(descending=True)[:_JOINED].tolist()
        said = [f"{_short(parts[i])}: {told[str(parts[i])][row].explanation}" for i in strongest]
        rows.append(Told(whole.promoted, whole.suppressed, whole.sources, whole.source_positions, " · ".join(said)))
    return rows


def _short(site: Site) -> str:
    return "MLP" if site.kind == "mlp" else f"head {site.head}"


def _embeddings(
    ids: Sequence[int], run: RunWrites, texts: Texts, up: Sequence[list[str]], down: Sequence[list[str]]
) -> list[tuple[str, list[str], list[str]]]:
    words = [texts.raw[ids[column]] for column in run.columns]
    told = zip(words, up, down, strict=True)
    return [(f"the token {word!r} itself", raised, lowered) for word, raised, lowered in told]
