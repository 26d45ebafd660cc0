"""What the embedded target model is trained on: stories, text about stories, and repetitions.

Stories teach the world; text about stories teaches the language of explanations; repetitions of random words
make copying (induction) heads form early, without which facts told once stay at chance.
"""

import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from tl_nla.storyworld.explanations import write_explanation
from tl_nla.storyworld.generator import Story, write_story
from tl_nla.storyworld.parser import facts_at, parse

HELD_OUT_SEED = 1_000_003
"""Stream of stories that no training of any part may read."""
RECENT_TOKENS = 6


def story_ids(tokenizer: PreTrainedTokenizerBase, story: Story) -> list[int]:
    """Token ids of a story between the begin and end tokens."""
    return [tokenizer.bos_token_id, *tokenizer.encode(story.text, add_special_tokens=False), tokenizer.eos_token_id]


def about_story_ids(tokenizer: PreTrainedTokenizerBase, story: Story, rng: random.Random) -> list[int]:
    """A story cut at a random token, followed by the explanation of that place.

    The prediction named in the explanation is the word that follows in the text: this is language modelling
    on text about text, no label of any activation.
    """
    ids = tokenizer.encode(story.text, add_special_tokens=False)
    cut = rng.randrange(8, len(ids) - 1)
    prefix = tokenizer.decode(ids[:cut])
    facts = facts_at(parse(prefix), len(prefix))
    recent = tokenizer.decode(ids[max(0, cut - RECENT_TOKENS) : cut])
    text = write_explanation(facts, recent, [(tokenizer.decode(ids[cut : cut + 1]), 1.0)])
    wrapped = tokenizer.encode(f"<explanation>{text}</explanation>", add_special_tokens=False)
    return [tokenizer.bos_token_id, *ids[:cut], *wrapped, tokenizer.eos_token_id]


def repetition_ids(tokenizer: PreTrainedTokenizerBase, words: Sequence[int], rng: random.Random) -> list[int]:
    """A random word list said two to four times."""
    chosen = [rng.choice(words) for _ in range(rng.randint(5, 30))]
    return [tokenizer.bos_token_id, *(chosen * rng.randint(2, 4))[:160], tokenizer.eos_token_id]


def document_ids(
    tokenizer: PreTrainedTokenizerBase, words: Sequence[int], seed: int, index: int, repetitions: float
) -> list[int]:
    """Document ``index`` of training stream ``seed``: which of the three kinds, and its token ids.

    Args:
        tokenizer: the world's tokenizer.
        words: ids that repetitions draw from.
        seed: the training stream; must not be :data:`HELD_OUT_SEED`.
        index: the document's number.
        repetitions: share of repetitions, 0 to 1; of the rest 30% are texts about stories.
    """
    rng = random.Random(f"document/{seed}/{index}")
    if rng.random() < repetitions:
        return repetition_ids(tokenizer, words, rng)
    story = write_story(seed, index)
    if rng.random() < 0.3:
        return about_story_ids(tokenizer, story, rng)
    return story_ids(tokenizer, story)
