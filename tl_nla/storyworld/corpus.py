"""Streams of stories by seed, and their tokens."""

from transformers import PreTrainedTokenizerBase

from tl_nla.storyworld.generator import Story, write_story

HELD_OUT_SEED = 1_000_003
"""Stream of stories that no training of any part may read."""
TRAINING_SEED = 7


def story_ids(tokenizer: PreTrainedTokenizerBase, story: Story) -> list[int]:
    """Token ids of a story between the begin and end tokens; word ``i`` of the story is token ``i + 1``."""
    return [tokenizer.bos_token_id, *tokenizer.encode(story.text, add_special_tokens=False), tokenizer.eos_token_id]


def held_out_stories(count: int, start: int = 0) -> list[Story]:
    """Stories of the stream that no training may read."""
    return [write_story(HELD_OUT_SEED, index) for index in range(start, start + count)]
