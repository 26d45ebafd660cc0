"""A verbalizer's source slots: their encoder is fitted on cheap labels, then the verbalizer learns to read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lightning_modules.data.oracle_config import OracleConfig, SourceSlotConfig
from lightning_modules.data.oracle_data import Captured
from lightning_modules.data.write_texts import WriteTexts
from lightning_modules.training.diff import taught_loss
from lightning_modules.training.oracle_stages import verbalizer_spec
from lightning_modules.training.stage import StageConfig, StageSpec
from lightning_modules.training.stages import Stages
from tl_nla.amounts import check_counts
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.model.sites import Site
from tl_nla.model.targets import Target
from tl_nla.oracle import CaptureConfig, LabelledWrites, SourceEncoder, WriteVerbalizer, capture_writes
from tl_nla.oracle.labels import Vocabulary
from tl_nla.oracle.source_examples import SourceExamples, source_examples

_NOTHING_SHARE = 0.25
_PRACTICE_POSITIONS = 8
_PRACTICE_RATE = 0.4
_REHEARSAL_RATE = 0.2
"""Shares of the learning rate: at the whole of it, all that the verbalizer answered before suffers."""


@dataclass(frozen=True)
class EncoderConfig:
    """How an encoder of sources is fitted: once through its examples.

    Attributes:
        hidden: width of its blocks.
        batch_size: rows a step.
        seed: of its weights and of the order of rows.
    """

    hidden: int = 768
    batch_size: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "hidden", "batch_size")


def add_source_slots(
    verbalizer: WriteVerbalizer, target: Target, data: Captured, documents: Sequence[Document], stages: Stages,
    config: OracleConfig, seed: int,
) -> None:  # fmt: skip
    """Fit an encoder of sources, give it to a trained verbalizer, let that one practise with it, and rehearse the rest.

    Nothing happens where the configuration asks for no encoder, or where no write read a distant word.

    Args:
        verbalizer: trained with two slots; changed in place.
        target: the model whose writes are read.
        data: captured writes, for the practice.
        documents: that the encoder is fitted on, then those that the verbalizer practises on (the same ones where there
            are no more): best others than those of ``data``, so that the verbalizer does not learn to trust what the
            encoder knows by heart.
        stages: where these are kept.
        config: sizes and steps.
        seed: of everything drawn.
    """
    slots = config.sources
    if slots is None:
        return
    sites = [site for site in data.train.sites if Site.parse(site).kind in ("head", "attn")]
    if not sites:
        return
    chosen, rest = documents[: slots.documents], documents[slots.documents :]
    settings, model, tokenizer, vocabulary = EncoderConfig(seed=seed), target.model, target.tokenizer, data.vocabulary

    @cache
    def labelled() -> tuple[SourceExamples, list[str]]:
        capture = CaptureConfig(slots.positions, seed=seed, batch_size=32)
        return encoder_examples(model, tokenizer, chosen, sites, vocabulary, capture)

    def practice() -> StageSpec:
        others, capture = rest or documents, CaptureConfig(_PRACTICE_POSITIONS, skips=False, seed=seed)
        asked = capture_writes(model, tokenizer, others[: slots.practice_documents], sites, capture, vocabulary)
        return practice_spec(verbalizer, data, asked, config, seed)

    words = stages.listed("encoder_words", lambda: labelled()[1])
    if words:
        encoder = new_encoder(verbalizer, words, settings)
        stages.run("encoder", encoder, lambda: encoder_spec(encoder, labelled()[0], settings))
        verbalizer.use_encoder(encoder)
        stages.run("practice", verbalizer, practice)
    if words and slots.rehearsal_steps:
        stages.run("rehearsal", verbalizer, lambda: rehearsal_spec(verbalizer, data, config, seed))


def encoder_examples(
    model: Any, tokenizer: Any, documents: Sequence[Document], sites: Sequence[str], vocabulary: Vocabulary,
    settings: CaptureConfig,
) -> tuple[SourceExamples, list[str]]:  # fmt: skip
    """Examples for an encoder, and the words that occur in them: an example names words by their place there.

    Of the writes that read no distant word a quarter is kept. Words are in lower case where the tokenizer has them so.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokenizer: its tokenizer.
        documents: the texts.
        sites: heads and attentions.
        vocabulary: the tokens that may be named.
        settings: positions of each document, begin token, and the seed of positions and of the writes that are kept.
    """
    found = source_examples(model, tokenizer, documents, sites, settings, vocabulary)
    drawn = torch.rand(len(found), generator=torch.Generator().manual_seed(settings.seed)) < _NOTHING_SHARE
    kept = (found.words >= 0).any(1) | drawn
    words, tokens = found.words[kept], found.words[found.words >= 0].unique()
    places = torch.where(words >= 0, torch.searchsorted(tokens, words.clamp_min(0)), -1)
    spelled = [vocabulary.texts[token] for token in tokens.tolist()]
    named = [word.lower() if word.lower() in vocabulary.texts else word for word in spelled]
    return SourceExamples(found.before[kept], found.write[kept], places), named


def new_encoder(verbalizer: WriteVerbalizer, words: Sequence[str], config: EncoderConfig) -> SourceEncoder:
    """An encoder to be fitted.

    Args:
        verbalizer: in whose embeddings it tells words: by a word's first token, with a space before it as in lists.
        words: that it knows.
        config: width and seed.
    """
    tokens = torch.tensor([_first_token(verbalizer.tokenizer, word) for word in words], device=verbalizer.device)
    embeddings = verbalizer.model.get_input_embeddings().weight[tokens]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return SourceEncoder(words, embeddings.detach().cpu(), verbalizer.d_act, config.hidden)


def _first_token(tokenizer: Any, word: str) -> int:
    """The first token of a word in a list that is not just the space before it."""
    ids = tokenizer.encode(f" {word}", add_special_tokens=False)
    return int(next((token for token in ids if tokenizer.decode([token]).strip()), ids[0]))


def encoder_spec(encoder: SourceEncoder, examples: SourceExamples, config: EncoderConfig) -> StageSpec:
    """A stage in which an encoder sees each example once."""
    batch = min(config.batch_size, len(examples))
    how = StageConfig(
        len(examples) // batch, batch, 1e-3, config.seed, down=0.6, rise=200, clip=5.0, curve=10, optimizer="adamw"
    )

    def loss(rows: Tensor) -> Tensor:
        return encoder.loss(examples.before[rows].float(), examples.write[rows].float(), examples.words[rows])

    return StageSpec(loss, len(examples), how)


def practice_spec(
    verbalizer: WriteVerbalizer, data: Captured, asked: LabelledWrites, config: OracleConfig, seed: int
) -> StageSpec:
    """A stage in which a trained verbalizer learns to say its source slots: the usual items, and many questions beside.

    Args:
        verbalizer: that is trained.
        data: with the writes of the usual items.
        asked: writes of heads and attentions; two thirds of the questions are about such as read distant words.
        config: steps and sizes.
        seed: of the order of both.
    """
    beside = _questions(verbalizer, [_Asked(asked, "sources", _source_rows(asked), _slots(config).practice_batch)])
    how = _stage_config(config, _slots(config).practice_steps, _PRACTICE_RATE, seed + 1)
    return verbalizer_spec(verbalizer, _items(data, config, seed + 1), how, beside)


def rehearsal_spec(verbalizer: WriteVerbalizer, data: Captured, config: OracleConfig, seed: int) -> StageSpec:
    """A stage that brings back what practice made a verbalizer forget: what it is seldom asked, such as about skips.

    Beside the usual items it is asked ``practice_batch`` questions about skips and half as many about sources, all of
    training writes, at a rate that falls to nothing from the start.
    """
    train = data.train
    skips = torch.tensor([row for row, answers in enumerate(train.answers) if "skip" in answers], dtype=torch.long)
    asked = [
        _Asked(train, "sources", _source_rows(train), _slots(config).practice_batch // 2),
        _Asked(train, "skip", skips, _slots(config).practice_batch),
    ]
    how = replace(_stage_config(config, _slots(config).rehearsal_steps, _REHEARSAL_RATE, seed + 2), down=1.0)
    return verbalizer_spec(verbalizer, _items(data, config, seed + 2), how, _questions(verbalizer, asked))


@dataclass(frozen=True)
class _Asked:
    """A question, and the rows of writes it is put about, so many a step."""

    writes: LabelledWrites
    question: str
    rows: Tensor
    count: int


def _questions(verbalizer: WriteVerbalizer, asked: Sequence[_Asked]) -> Callable[[], Tensor] | None:
    """The loss of a fresh batch of questions; nothing where there is nothing to ask about.

    They are drawn from torch's global generator, which a stage sets for each step.
    """
    asked = [part for part in asked if len(part.rows) and part.count]

    def loss() -> Tensor:
        drawn = [part.rows[torch.randint(len(part.rows), (part.count,))] for part in asked]
        before = torch.cat([part.writes.before[rows] for part, rows in zip(asked, drawn, strict=True)])
        write = torch.cat([part.writes.write[rows] for part, rows in zip(asked, drawn, strict=True)])
        pairs = [(part, row) for part, rows in zip(asked, drawn, strict=True) for row in rows.tolist()]
        questions = [part.question for part, _ in pairs]
        texts = [part.writes.text(row, part.question) for part, row in pairs]
        return taught_loss(verbalizer, before, write, questions, texts)

    return loss if asked else None


def _source_rows(writes: LabelledWrites) -> Tensor:
    """Rows that can be asked about sources: those that read distant words twice, and as many at most that did not."""
    answers = [found.get("sources") for found in writes.answers]
    told = torch.tensor([row for row, answer in enumerate(answers) if answer and answer.tokens], dtype=torch.long)
    rest = torch.tensor([row for row, answer in enumerate(answers) if answer and not answer.tokens], dtype=torch.long)
    return torch.cat([told, told, rest[: len(told)]])


def _slots(config: OracleConfig) -> SourceSlotConfig:
    if config.sources is None:
        raise InputError("sources is None; give a SourceSlotConfig for a verbalizer that is to learn its source slots")
    return config.sources


def _items(data: Captured, config: OracleConfig, seed: int) -> WriteTexts:
    return WriteTexts(data.train, 0.15, seed, 0.6, 0.05, config.questions)


def _stage_config(config: OracleConfig, steps: int, share: float, seed: int) -> StageConfig:
    return StageConfig(steps, config.batch_size, share * config.rate, seed, precision=config.precision)
