"""Whether a target model holds what it was told: accuracy on words decided by a fact told long before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tl_nla.storyworld.corpus import HELD_OUT_SEED, story_ids
from tl_nla.storyworld.generator import Story, write_story


@dataclass(frozen=True)
class RecallResult:
    """One planted fact: in which story, its type, how far back its word stood last, and whether the model got it."""

    story: int
    claim: str
    distance: int
    correct: bool


@torch.no_grad()
def recall_results(
    model: Any, tokenizer: PreTrainedTokenizerBase, stories: Sequence[Story], batch_size: int = 50
) -> list[RecallResult]:
    """The model's greedy answer at every planted fact.

    Args:
        model: a Hugging Face causal language model or a TransformerLens model.
        tokenizer: the world's tokenizer.
        stories: stories no training saw.
        batch_size: stories a forward pass.

    Returns:
        One result a recall. ``distance`` counts tokens from the last earlier appearance of the answer.
    """
    results = []
    for start in range(0, len(stories), batch_size):
        batch = stories[start : start + batch_size]
        encoded = [story_ids(tokenizer, story) for story in batch]
        width = max(map(len, encoded))
        tokens = torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids in encoded])
        output = model(tokens)
        guesses = getattr(output, "logits", output).argmax(-1)
        for row, story in enumerate(batch):
            for recall in story.recalls:
                correct = bool(guesses[row, recall.word] == tokens[row, recall.word + 1])
                results.append(RecallResult(start + row, recall.claim, recall.word - recall.seen, correct))
    return results


def held_out_stories(count: int, start: int = 0) -> list[Story]:
    """Stories of the stream that no training may read."""
    return [write_story(HELD_OUT_SEED, index) for index in range(start, start + count)]
