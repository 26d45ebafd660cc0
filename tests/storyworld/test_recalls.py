"""The embedded target holds what it was told; without that there is nothing to explain."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import TINY, model_folder
from tl_nla.storyworld.corpus import HELD_OUT_SEED, TRAINING_SEED, held_out_stories, story_ids
from tl_nla.storyworld.generator import Story

FAR, ENOUGH, STORIES = 20, 0.95, 150


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


def test_the_target_completes_facts_told_long_before():
    folder = model_folder(TINY)
    model, tokenizer = load_causal_lm(folder, torch.float32).eval(), load_tokenizer(folder)
    results = recall_results(model, tokenizer, held_out_stories(STORIES))
    far = [result.correct for result in results if result.distance >= FAR]
    assert len(far) > 200
    assert sum(far) / len(far) >= ENOUGH
    for claim in {result.claim for result in results}:
        of_claim = [result.correct for result in results if result.claim == claim and result.distance >= FAR]
        assert sum(of_claim) / len(of_claim) >= 0.8, claim


def test_no_training_reads_held_out_stories():
    assert TRAINING_SEED != HELD_OUT_SEED
    stories = held_out_stories(3, start=5)
    assert stories == held_out_stories(8)[5:]


def test_results_count_what_the_model_says():
    """A model that knows every answer but those of one story."""
    tokenizer = load_tokenizer(model_folder(TINY))
    stories = held_out_stories(4)
    first = story_ids(tokenizer, stories[0])

    def perfect(tokens):
        following = torch.cat([tokens[:, 1:], tokens[:, :1]], 1)
        for row, ids in enumerate(tokens.tolist()):
            if ids[: len(first)] == first:
                following[row] = 0
        return SimpleNamespace(logits=torch.nn.functional.one_hot(following, len(tokenizer)).float())

    results = recall_results(perfect, tokenizer, stories, batch_size=3)
    assert len(results) == sum(len(story.recalls) for story in stories)
    assert all(result.correct == (result.story != 0) for result in results)
    recall = stories[1].recalls[0]
    mine = next(result for result in results if result.story == 1)
    assert (mine.claim, mine.distance) == (recall.claim, recall.word - recall.seen)
