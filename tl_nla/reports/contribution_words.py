"""The words of a contribution report: tokens read, promoted and suppressed, and explanations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.reading import Reading
from tl_nla.model.sites import Site
from tl_nla.oracle.labels import Lens, Vocabulary, write_effects
from tl_nla.oracle.labels.sources import HeadSources, sources_of_both, without_values
from tl_nla.oracle.labels.vocabulary import decoded_tokens
from tl_nla.oracle.texts import Label, label_text

SHARE_FLOOR = 0.04
"""Sources with a smaller share are not named, as in the labels that oracles are taught."""
_SOURCES = 3
_JOINED = 3


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
class Words:
    """What is said of each site's writes, row by row of the reading, and of the embeddings."""

    vocabulary: Texts
    sites: dict[str, list[Told]]
    embed: list[tuple[str, list[str], list[str]]] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def texts_of(self, ids: Int[Tensor, " n"]) -> tuple[str, ...]:
        """Tokens as they stand, space and all."""
        return tuple(self.vocabulary.raw[i] for i in ids.tolist())


def words_of(
    model: Any, tokens: Int[Tensor, "1 pos"], reading: Reading, tokenizer: Any, oracle: Any, top_k: int,
    settings: Mapping[str, Any] | None = None, vocabulary: Vocabulary | None = None,
) -> Words:  # fmt: skip
    """Say what every write of a reading does.

    Args:
        model: the TransformerLens model.
        tokens: the prompt.
        reading: writes of heads, attentions, MLPs and blocks.
        tokenizer: its tokenizer; ``None`` names tokens by their ids.
        oracle: a diff oracle, or ``None`` for labels. A whole attention or block that the oracle was not trained on
            is explained by those of its parts whose writes are largest.
        top_k: tokens named on each side.
        settings: for ``oracle.explain``.
        vocabulary: the tokens that may be named; every printable one when ``None``.
    """
    lens = Lens.of(model)
    named = vocabulary or Vocabulary.of(tokenizer, lens.weight.shape[1])
    # Some models read more tokens than they predict.
    texts = Texts(_raw_texts(tokenizer, max(int(model.cfg.d_vocab), lens.weight.shape[1])), named)
    readers, notes = _readers(model, tokens, reading)
    said = {} if oracle is None else _asked(oracle, reading, settings or {})
    told: dict[str, list[Told]] = {}
    effects = _effects(lens, reading, named, top_k)
    for site, (up, down) in zip(reading.sites, effects, strict=True):
        reader = readers.get(site.kind) if site.kind == "attn" or site.part == "attn" else None
        sources = [_sources(reader, site, column, tokens, texts) for column in reading.column.tolist()]
        told_of = reader is not None and site.layer in reader.layers
        known = [[texts.name_of(int(tokens[0, place])) for place in places] for _, places in sources]
        explained = said[str(site)] if oracle is not None else _labels(up, down, known if told_of else None)
        told[str(site)] = [
            Told(up[row], down[row], sources[row][0], sources[row][1], explained[row]) for row in range(len(reading))
        ]
    if oracle is not None:
        told |= {str(site): _composed(told, reading, site) for site in reading.sites if not _knows(oracle, site)}
    return Words(texts, told, _embeddings(model, tokens, reading, lens, texts, top_k), notes)


def _effects(
    lens: Lens, reading: Reading, named: Vocabulary, top_k: int
) -> list[tuple[list[list[str]], list[list[str]]]]:
    """Words promoted and suppressed, of each site's rows; the unembedding is read once for all of them."""
    writes = torch.cat([reading.precise(site).float() for site in reading.sites])
    states = torch.cat([reading.before(site).float() for site in reading.sites])
    found = write_effects(lens, writes, states, named, top_k)
    up, down, rows = named.words(found.promoted), named.words(found.suppressed), len(reading)
    places = [slice(first, first + rows) for first in range(0, len(up), rows)]
    return [(up[place], down[place]) for place in places]


def _readers(model: Any, tokens: Tensor, reading: Reading) -> tuple[dict[str, HeadSources], tuple[str, ...]]:
    """What heads and attentions read, in the layers that have heads; a note where it cannot be told."""
    wanted = sorted({int(site.layer or 0) for site in reading.sites if site.kind == "head" and site.part == "attn"})
    known = model.hook_dict
    reasons = {layer: why for layer in wanted if (why := without_values(model, layer, known))}
    notes = tuple(f"what heads read is not told: {why}" for why in reasons.values())
    layers = [layer for layer in wanted if layer not in reasons]
    if not layers:
        return {}, notes
    try:
        single, whole = sources_of_both(model, tokens, None, layers, layers, _SOURCES)
    except InputError as error:
        return {}, (*notes, f"what heads read is not told: {error}")
    found = {"head": single, "attn": whole}
    return {kind: sources for kind, sources in found.items() if sources is not None}, notes


def _raw_texts(tokenizer: Any, size: int) -> tuple[str, ...]:
    if tokenizer is None:
        return tuple(f"#{i}" for i in range(size))
    decoded = decoded_tokens(tokenizer, size)
    return decoded + tuple(f"#{i}" for i in range(len(decoded), size))


def _sources(
    found: HeadSources | None, site: Site, column: int, tokens: Tensor, texts: Texts
) -> tuple[list[tuple[str, float]], list[int]]:
    """Tokens read and their columns, strongest first; the position itself and the first token are no sources."""
    if found is None or site.layer not in found.layers:
        return [], []
    place = found.layers.index(site.layer), int(site.head or 0) if site.kind == "head" else 0, 0, column
    pairs = []
    for columns, shares in ((found.distant, found.distant_weight), (found.local, found.local_weight)):
        listed = zip(columns[place].tolist(), shares[place].tolist(), strict=True)
        pairs += [(share, int(source)) for source, share in listed if share >= SHARE_FLOOR]
    pairs = sorted(pairs, reverse=True)[:_SOURCES]
    return [(texts.raw[int(tokens[0, source])], share) for share, source in pairs], [source for _, source in pairs]


def _asked(oracle: Any, reading: Reading, settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """The oracle's explanations of all writes it knows, in one batch; blank for the others."""
    known = [site for site in reading.sites if _knows(oracle, site)]
    writes = torch.cat([reading.precise(site).float() for site in known])
    states = torch.cat([reading.before(site).float() for site in known])
    texts = oracle.explain(writes, states, **settings)
    rows = len(reading)
    said = {str(site): texts[place * rows : (place + 1) * rows] for place, site in enumerate(known)}
    return {str(site): said.get(str(site), [""] * rows) for site in reading.sites}


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


def _composed(told: dict[str, list[Told]], reading: Reading, site: Site) -> list[Told]:
    kinds = ("head", "mlp") if site.kind == "block" else ("head",)
    parts = [part for part in reading.sites if part.layer == site.layer and part.kind in kinds]
    if not parts:
        return told[str(site)]
    sizes = torch.stack([reading.precise(part).float().norm(dim=-1) for part in parts])
    rows = []
    for row, whole in enumerate(told[str(site)]):
        strongest = sizes[:, row].argsort(descending=True)[:_JOINED].tolist()
        said = [f"{_short(parts[i])}: {told[str(parts[i])][row].explanation}" for i in strongest]
        rows.append(Told(whole.promoted, whole.suppressed, whole.sources, whole.source_positions, " · ".join(said)))
    return rows


def _short(site: Site) -> str:
    return "MLP" if site.kind == "mlp" else f"head {site.head}"


def _embeddings(
    model: Any, tokens: Tensor, reading: Reading, lens: Lens, texts: Texts, top_k: int
) -> list[tuple[str, list[str], list[str]]]:
    first = reading.before(next(site for site in reading.sites if str(site) == "blocks.0")).float()
    effects = write_effects(lens, first, first, texts.named, top_k)
    up, down = texts.named.words(effects.promoted), texts.named.words(effects.suppressed)
    words = [texts.raw[int(tokens[0, column])] for column in reading.column.tolist()]
    told = zip(words, up, down, strict=True)
    return [(f"the token {word!r} itself", raised, lowered) for word, raised, lowered in told]
