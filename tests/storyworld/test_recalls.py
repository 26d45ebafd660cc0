"""The embedded target holds what it was told; without that there is nothing to explain."""

from types import SimpleNamespace

import torch

from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import TINY, model_folder
from tl_nla.storyworld.corpus import HELD_OUT_SEED, TRAINING_SEED, story_ids
from tl_nla.storyworld.recalls import held_out_stories, recall_results

FAR, ENOUGH, STORIES = 20, 0.95, 150


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
