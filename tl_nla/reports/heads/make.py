"""From a model and texts to the cards of its heads, in stages whose parts are kept."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tl_nla.adapters.base import refuse_unfit
from tl_nla.data.documents import Document
from tl_nla.data.progress import tell
from tl_nla.errors import InputError
from tl_nla.model.facts import check_deterministic, facts_of
from tl_nla.nla.provenance import versions
from tl_nla.oracle.labels import Lens, Vocabulary, whole_words
from tl_nla.oracle.labels.vocabulary import decoded_tokens
from tl_nla.paths import user_path
from tl_nla.reports.heads import repeated
from tl_nla.reports.heads.card import Card, Example, HeadCards, Matters, Words
from tl_nla.reports.heads.config import HeadCardsConfig
from tl_nla.reports.heads.effects import NAMES, effect_columns, head_effects
from tl_nla.reports.heads.kinds import THRESHOLDS, kinds_of
from tl_nla.reports.heads.oracle_words import oracle_fve, said_by
from tl_nla.reports.heads.ov_circuit import ov_scores, read_back
from tl_nla.reports.heads.parts import Parts, opened, parts_in
from tl_nla.reports.heads.rows import Rows
from tl_nla.reports.heads.sums import Attention, attention_sums, ids_of, is_delimiter
from tl_nla.reports.heads.texts import Batch, Texts
from tl_nla.reports.heads.watch import LayerRead, layer_weight, layers_with_heads, watched_pass
from tl_nla.reports.heads.words import Wording, layer_words

_WHY = "why"
"""Name of the reason in a part, where a layer could not be read."""


def head_cards(
    model: Any, texts: Sequence[str | Document], config: HeadCardsConfig | None = None, *, oracle: Any = None,
    cache: str | Path | None = None, **options: Any,
) -> HeadCards:  # fmt: skip
    """Say what each attention head of a model does over some texts.

    One pass of the texts serves all layers. Each is reduced while the pass runs; the writes at the drawn positions go
    to files, so memory does not grow with the texts.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` with its tokenizer, in evaluation mode; left as found.
        texts: documents, or their texts; a sample of them is drawn.
        config: how much is read, see :class:`tl_nla.reports.HeadCardsConfig`.
        oracle: a :class:`tl_nla.oracle.DiffOracle` whose explanations are scored, too.
        cache: folder that keeps what is done: the same call goes on from there after an interruption.
        options: settings of the config by name.

    Returns:
        The cards.

    Raises:
        InputError: when the model has no attention heads that can be told, or the texts are too few or too short. Also
            when the oracle is none of this model.

    Example:
        >>> cards = head_cards(model, texts, documents=64, cache="runs/heads")
        >>> [card.name for card in cards.of_kind("induction")]
    """
    config = replace(config or HeadCardsConfig(), **options)
    begun = time.monotonic()
    facts_of(model)
    check_deterministic(model)
    if oracle is not None:
        refuse_unfit(model, oracle, "the oracle reads writes", ("explain", "reconstruct"))
    heads, notes = layers_with_heads(model, config.layers)
    drawn = Texts.draw(model, texts, config)
    settings = {**config.kept(), "texts": drawn.hash(), "model": _fingerprint(model)}
    with parts_in(None if cache is None else user_path(cache), settings) as parts:
        cards = _Maker(model, drawn, config, heads, parts, notes).cards(oracle)
    held = sum(drawn.heldout)
    facts = {"documents": len(drawn.ids), "tokens": sum(map(len, drawn.ids)), "heldout_documents": held,
             "settings": config.kept(), "thresholds": dict(THRESHOLDS)}  # fmt: skip
    name = Path(str(getattr(model.cfg, "model_name", None) or type(model).__name__)).name
    return HeadCards(name, cards, facts, tuple(notes), time.monotonic() - begun, versions())


@dataclass
class _Maker:
    """One run over a model; every stage is made of parts that are kept."""

    model: Any
    texts: Texts
    config: HeadCardsConfig
    heads: dict[int, int]
    parts: Parts
    notes: list[str]
    _back: Tensor | None = None

    def cards(self, oracle: Any) -> tuple[Card, ...]:
        """All stages, in order."""
        reads = self._read()
        repeats = self._repeats()
        effects = self._effects()
        wording = self._wording()
        meaning = getattr(oracle, "meaning", {})
        found: list[Card] = []
        for done, layer in enumerate(self.heads):
            tell("putting writes into words, layers", done, len(self.heads))
            told = self._words(wording, reads, layer)
            scored = self._oracle(oracle, reads, layer)
            sums = _summed(reads, f"{layer}.sums").tolist()
            for head in range(self.heads[layer]):
                words = {**told[head], **scored[head], "meaning": meaning.get(f"blocks.{layer}.attn.head.{head}")}
                repeat = repeats[layer][head] if layer in repeats else None
                found.append(_card(layer, head, (sums[head], repeat), words, effects.get((layer, head), Matters())))
        tell("putting writes into words, layers", len(self.heads), len(self.heads))
        return tuple(found)

    def _drop(self, paths: list[Path]) -> None:
        """Leave out the layers that could not be read in every batch."""
        for path in paths:
            with opened(path) as file:
                for layer in [layer for layer in self.heads if f"{layer}.{_WHY}" in set(file.keys())]:
                    why = bytes(file.get_tensor(f"{layer}.{_WHY}").tolist()).decode()
                    del self.heads[layer]
                    self.notes.append(f"Layer {layer} has no cards: {why}")
        if not self.heads:
            raise InputError(f"no layer's heads could be read. {self.notes[-1]}")

    def _read(self) -> list[Path]:
        """Attention and writes of all layers, a batch of documents a part."""
        size = int(self.model.cfg.d_vocab)
        marks = is_delimiter(decoded_tokens(self.texts.tokenizer, size))
        marks = torch.nn.functional.pad(marks, (0, size - len(marks)))
        paths, done, total = [], 0, len(self.texts.ids)
        tell("reading documents", 0, total)
        for number, batch in enumerate(self.texts.batches(self.model, self.config, max(self.heads.values()))):
            paths.append(self.parts.tensors(f"read-{number:05d}", partial(self._read_batch, batch, marks)))
            done += len(batch.numbers)
            tell("reading documents", done, total)
        self._drop(paths)
        return paths

    def _read_batch(self, batch: Batch, marks: Tensor) -> dict[str, Tensor]:
        delimiter = ids_of(marks, batch.tokens)
        found = watched_pass(
            self.model, batch.tokens, list(self.heads),
            lambda pattern: attention_sums(pattern, batch.real.to(pattern.device), delimiter.to(pattern.device)),
            (batch.row, batch.column),
        )  # fmt: skip
        kept = {"document": torch.tensor(batch.numbers)[batch.row.cpu()], "column": batch.column.cpu()}
        for layer, read in found.items():
            if isinstance(read, LayerRead) and read.z is not None:
                values = {"sums": read.sums, "z": read.z, "source": read.source, "share": read.share}
                kept |= {f"{layer}.{name}": value for name, value in values.items() if value is not None}
            else:
                kept[f"{layer}.{_WHY}"] = torch.tensor(list(str(read).encode()), dtype=torch.uint8)
        return kept

    def _repeats(self) -> dict[int, list[list[float]]]:
        """Scores on repeated random tokens; none, and a note, where the model cannot be given any."""

        def made() -> dict[str, Any]:
            try:
                tokens = repeated.repeated_tokens(self.model, self.config.seed)
            except InputError as error:
                return {"note": str(error)}
            found = repeated.repetition_scores(self.model, tokens, list(self.heads))
            return {str(layer): scores.tolist() for layer, scores in found.items() if isinstance(scores, Tensor)}

        tell("repeated random tokens")
        found = self.parts.values("repeated", made)
        if "note" in found:
            self.notes.append(f"Induction and duplicate tokens were not scored: {found.pop('note')}")
        return {int(layer): scores for layer, scores in found.items()}

    def _effects(self) -> dict[tuple[int, int], Matters]:
        """Skips and direct attribution, a document a part."""
        count = min(self.config.effects, len(self.texts.ids))
        paths: list[Path] = []
        try:
            for number in range(count):
                tell("leaving out heads, documents", number, count)
                make = partial(head_effects, self.model, self.texts, number, self.heads, self.config)
                paths.append(self.parts.tensors(f"effects-{number:05d}", make))
        except InputError as error:
            self.notes.append(f"When heads matter was left out: {error}")
            return {}
        if count:
            tell("leaving out heads, documents", count, count)
        return self._matters(paths)

    def _matters(self, paths: list[Path]) -> dict[tuple[int, int], Matters]:
        found: dict[str, list[Tensor]] = {name: [] for name in NAMES}
        for path in paths:
            with opened(path) as file:
                for name in set(file.keys()):
                    found[name].append(file.get_tensor(name))
        if paths and not found["kl"]:
            self.notes.append("No head was left out: this model permits no exact skips (tl-nla check says why).")
        joined = {name: torch.cat(values, 1) for name, values in found.items() if values}
        places = [(number, column) for number in range(len(paths))
                  for column in effect_columns(self.texts, number, self.config)]  # fmt: skip
        keys = [(layer, head) for layer, count in self.heads.items() for head in range(count)]
        return {key: _matter({name: values[row] for name, values in joined.items()}, places, self.texts)
                for row, key in enumerate(keys)} if joined else {}  # fmt: skip

    def _wording(self) -> Wording:
        size = int(self.model.W_U.shape[1])
        tokenizer = self.texts.tokenizer
        whole = self.config.vocabulary == "words"
        vocabulary = whole_words(tokenizer, size) if whole else Vocabulary.of(tokenizer, size)
        return Wording(Lens.of(self.model), vocabulary, self.texts, self.config)

    def _words(self, wording: Wording, reads: list[Path], layer: int) -> list[dict[str, Any]]:
        def made() -> list[dict[str, Any]]:
            weight = layer_weight(self.model, layer)
            told = layer_words(wording, Rows.load(reads, layer, self.texts), weight)
            scores = ov_scores(self.model, layer, weight, self._read_back(wording.lens))
            return [{**own, "ov": score} for own, score in zip(told, scores, strict=True)]

        found: list[dict[str, Any]] = self.parts.values(f"words-{layer:03d}", made)
        return found

    def _read_back(self, lens: Lens) -> Tensor:
        if self._back is None:
            self._back = read_back(self.model, lens)
        return self._back

    def _oracle(self, oracle: Any, reads: list[Path], layer: int) -> list[dict[str, Any]]:
        if oracle is None:
            return [{} for _ in range(self.heads[layer])]
        name = f"oracle-{said_by(oracle, int(self.model.cfg.d_model))}-{layer:03d}"
        found: list[dict[str, Any]] = self.parts.values(
            name,
            lambda: oracle_fve(oracle, Rows.load(reads, layer, self.texts), layer_weight(self.model, layer), (
                self.model, layer, self.texts, self.config.oracle_rows)),
        )  # fmt: skip
        return found


def _card(
    layer: int, head: int, looked: tuple[list[float], list[float] | None], told: dict[str, Any], matters: Matters
) -> Card:
    attention = Attention.of(looked[0])
    again = dict(zip(repeated.NAMES, looked[1], strict=True)) if looked[1] is not None else {}
    previous = min(attention.previous, again.get("previous", 1.0))
    scores = {
        "induction": again.get("induction"), "duplicate token": again.get("duplicate"), "previous token": previous,
        "delimiter": attention.delimiter, "positional": attention.positional, "copying": told["copying"],
        "sink": attention.sink,
    }  # fmt: skip
    shape = {"delimiter_chance": attention.delimiter_chance, "peak": attention.peak, "sink": attention.sink}
    words = {name: told[name] for name in ("usual", "fve", "fve_shuffled", "heldout", "ov")}
    words |= {name: told[name] for name in ("fve_oracle", "oracle_rows", "meaning") if name in told}
    up, down = (tuple(side) for side in told["always"])
    often = tuple((word, share) for word, share in told["often"])
    examples = tuple(
        Example(one["before"], one["token"], tuple((text, back, share) for text, back, share in one["sources"]),
                tuple(one["up"]), tuple(one["down"])) for one in told["examples"]
    )  # fmt: skip
    return Card(
        layer, head, kinds_of(scores, shape), scores, attention, tuple((text, share) for text, share in told["reads"]),
        Words(always=(up, down), often=often, **words), matters, examples,
    )  # fmt: skip


def _matter(values: dict[str, Tensor], places: list[tuple[int, int]], texts: Texts) -> Matters:
    found: dict[str, Any] = {"positions": len(places)}
    if "direct" in values and not bool(values["direct"].isnan().any()):
        found |= {"direct": values["direct"].mean().item(), "direct_size": values["direct"].abs().mean().item()}
    if "kl" in values and len(values["kl"]) == len(places):
        strongest = int(values["kl"].argmax())
        number, column = places[strongest]
        ids = texts.ids[number]
        where = texts.text(ids[max(0, column - 11) : column + 1]), texts.text([ids[column + 1]])
        found |= {"skip_kl": values["kl"].mean().item(), "largest": values["kl"].max().item(), "where": where,
                  "change": values["change"].mean().item()}  # fmt: skip
    finite = {name: value for name, value in found.items() if not isinstance(value, float) or math.isfinite(value)}
    return Matters(**finite)


def _summed(paths: Sequence[Path], name: str) -> Tensor:
    total = None
    for path in paths:
        with opened(path) as file:
            value = file.get_tensor(name).double()
        total = value if total is None else total + value
    if total is None:
        raise InputError(f"no part holds {name}")
    return total


def _fingerprint(model: Any) -> str:
    values = [*model.parameters()]
    some = sum(float(value.detach().flatten()[:64].double().sum()) for value in values)
    return f"{type(model).__name__} {len(values)} tensors {values[0].dtype} {some:.6g}"
