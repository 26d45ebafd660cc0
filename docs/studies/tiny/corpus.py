"""What the embedded target model is trained on: stories, text about stories, and word pairs.

Stories teach the world. Text about stories teaches the language of explanations. Word pairs said again in another order
keep the copying circuit alive, without which facts told once stay at chance.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tl_nla.storyworld.corpus import HELD_OUT_SEED, TRAINING_SEED, story_ids
from tl_nla.storyworld.explanations import write_explanation
from tl_nla.storyworld.generator import Story, write_story
from tl_nla.storyworld.parser import facts_at, parse

RECENT_TOKENS = 6


_CHUNK = 256


@dataclass(frozen=True)
class CorpusConfig:
    """Which documents, and how many tokens of them a batch.

    Attributes:
        seed: training stream; must differ from :data:`HELD_OUT_SEED`.
        pair_batches: how many of the first batches hold word pairs only.
        pair_share: share of word-pair documents afterwards.
        about_share: share of texts about stories among the rest.
        recall_weight: loss weight of a word that a fact told before decides; all others weigh 1.
        tokens: tokens of a batch at most, padding included.
    """

    seed: int = TRAINING_SEED
    pair_batches: int = 40
    pair_share: float = 0.08
    about_share: float = 0.3
    recall_weight: float = 6.0
    tokens: int = 3000

    def __post_init__(self) -> None:
        if self.seed == HELD_OUT_SEED:
            raise ValueError(f"seed is {self.seed}, the stream of held-out stories; choose any other seed")
        for name in ("pair_share", "about_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: a share from 0 to 1")


@dataclass(frozen=True)
class TrainingDocument:
    """Token ids and the loss weight of each as a target."""

    ids: list[int]
    weights: list[float]


def about_story_ids(tokenizer: PreTrainedTokenizerBase, story: Story, rng: random.Random) -> list[int]:
    """A story cut at a random token, followed by the explanation of that place.

    The prediction named in the explanation is the word that follows in the text. This is language modelling on text
    about text, no label of any activation.
    """
    ids = tokenizer.encode(story.text, add_special_tokens=False)
    cut = rng.randrange(8, len(ids) - 1)
    prefix = str(tokenizer.decode(ids[:cut]))
    facts = facts_at(parse(prefix), len(prefix))
    recent = str(tokenizer.decode(ids[max(0, cut - RECENT_TOKENS) : cut]))
    text = write_explanation(facts, recent, [(str(tokenizer.decode(ids[cut : cut + 1])), 1.0)])
    wrapped = tokenizer.encode(f"<explanation>{text}</explanation>", add_special_tokens=False)
    return [tokenizer.bos_token_id, *ids[:cut], *wrapped, tokenizer.eos_token_id]


def pair_ids(tokenizer: PreTrainedTokenizerBase, words: Sequence[int], rng: random.Random) -> list[int]:
    """Two to five word pairs, said three to five times, each time in another order."""
    count = rng.randint(2, 5)
    chosen = rng.sample(list(words), 2 * count)
    pairs = list(zip(chosen[::2], chosen[1::2], strict=True))
    ids = [tokenizer.bos_token_id]
    for _ in range(rng.randint(3, 5)):
        rng.shuffle(pairs)
        ids += [word for pair in pairs for word in pair]
    return [*ids, tokenizer.eos_token_id]


def word_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of all tokens that are a word with its leading space."""
    marked = tokenizer.convert_ids_to_tokens(tokenizer.encode(" a", add_special_tokens=False))[0][0]
    return sorted(i for token, i in tokenizer.get_vocab().items() if token.startswith(marked) and len(token) > 1)


def training_document(
    tokenizer: PreTrainedTokenizerBase, words: Sequence[int], config: CorpusConfig, index: int, only_pairs: bool = False
) -> TrainingDocument:
    """Document ``index`` of the training stream; a pure function of its arguments."""
    rng = random.Random(f"document/{config.seed}/{index}")
    if only_pairs or rng.random() < config.pair_share:
        ids = pair_ids(tokenizer, words, rng)
        return TrainingDocument(ids, [1.0] * len(ids))
    story = write_story(config.seed, index)
    if rng.random() < config.about_share:
        ids = about_story_ids(tokenizer, story, rng)
        return TrainingDocument(ids, [1.0] * len(ids))
    ids = story_ids(tokenizer, story)
    weights = [1.0] * len(ids)
    for recall in story.recalls:
        weights[recall.word + 1] = config.recall_weight
    return TrainingDocument(ids, weights)


def training_batches(
    tokenizer: PreTrainedTokenizerBase, config: CorpusConfig, steps: int
) -> Iterator[list[TrainingDocument]]:
    """``steps`` batches of documents of similar length, no document twice."""
    words, done, index = word_ids(tokenizer), 0, 0
    while done < steps:
        only_pairs = done < config.pair_batches
        documents = [training_document(tokenizer, words, config, index + k, only_pairs) for k in range(_CHUNK)]
        index += _CHUNK
        batches = _pack(sorted(documents, key=lambda document: len(document.ids)), config.tokens)
        random.Random(f"order/{config.seed}/{index}").shuffle(batches)
        yield from batches[: steps - done]
        done += len(batches)


def _pack(documents: list[TrainingDocument], tokens: int) -> list[list[TrainingDocument]]:
    batches: list[list[TrainingDocument]] = [[]]
    for document in documents:
        if batches[-1] and (len(batches[-1]) + 1) * len(document.ids) > tokens:
            batches.append([])
        batches[-1].append(document)
    return batches
