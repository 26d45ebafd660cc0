"""Judges against texts whose verdict is known."""

import math

import pytest
import torch

from tl_nla.errors import InputError
from tl_nla.steering.judges import match_probability, perplexity, repetition, word_distance
from tl_nla.storyworld.corpus import held_out_stories
from tl_nla.storyworld.judges import judge_story


def test_a_story_of_the_world_is_valid_and_gibberish_is_not():
    story = held_out_stories(1)[0].text
    cut = story.index(".", len(story) // 2) + 1
    prompt, said = story[:cut], story[cut:]
    judged = judge_story(prompt, said, said.split()[0])
    assert judged.first
    assert judged.appears
    assert judged.valid
    assert judged.kept == judged.recalls
    assert not judge_story(prompt, " red the the kite.", "red").valid


def test_repetition():
    assert repetition("a b c d e f") == 0
    assert repetition("a b c a b c a b c") == pytest.approx(4 / 7)
    assert repetition("a") == 0
    with pytest.raises(InputError, match="size"):
        repetition("a", 0)


def test_word_distance():
    assert word_distance("the kite was red", "the kite was red") == 0
    assert word_distance("the kite was red", "the kite was blue") == 0.25
    assert word_distance("a b c", "") == 1
    assert word_distance("x a b c", "a b c") == 0.25


class Fixed:
    """Logits that depend on the column alone."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, tokens):
        return self.logits.expand(1, tokens.shape[1], -1)


def test_perplexity_of_a_uniform_model_is_its_vocabulary():
    assert perplexity(Fixed(torch.zeros(7)), torch.tensor([[1, 2, 3, 4]]), 2) == pytest.approx(7)
    skewed = torch.tensor([0.5, 0.25, 0.25]).log()
    assert perplexity(Fixed(skewed), torch.tensor([[2, 0, 1]]), 1) == pytest.approx(math.sqrt(8))
    for prompt in (0, 3):
        with pytest.raises(InputError, match="prompt"):
            perplexity(Fixed(skewed), torch.tensor([[2, 0, 1]]), prompt)


def test_a_preference_for_a_letter_averages_out():
    model = Fixed(torch.arange(128.0).flip(0))
    assert match_probability(model, lambda text: [ord(c) for c in text], "Q?", "yes", "no") == pytest.approx(0.5)


def test_a_preference_for_the_answer_stays():
    class Prefers:
        def __call__(self, tokens):
            text = "".join(map(chr, tokens[0].tolist()))
            logits = torch.zeros(1, tokens.shape[1], 128)
            logits[0, -1, ord("A" if "(A) yes" in text else "B")] = 3.0
            return logits

    found = match_probability(Prefers(), lambda text: [ord(c) for c in text], "Q?", "yes", "no")
    assert found == pytest.approx(1 / (1 + math.exp(-3)))
    with pytest.raises(InputError, match="one token"):
        match_probability(Prefers(), lambda text: [1, 2], "Q?", "yes", "no")
