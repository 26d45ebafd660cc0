"""Short explanations: next words first, the last words last, nothing that a training text may not hold."""

import pytest
import torch

from tl_nla.errors import InputError
from tl_nla.explainers import Moment, as_explainer
from tl_nla.explainers.short import ShortExplainer


def moment(text, guesses=((" home", 0.4), (" Home ", 0.2), (" home", 0.1), (" bed", 0.1))):
    return Moment(text, text[-5:], list(guesses), torch.zeros(2))


def said(text, **settings):
    found = moment(text, **settings)
    ((explanation, truth),) = as_explainer("short")("", [found])
    assert truth is None
    return explanation


def test_next_words_then_the_last_seven():
    text = "one two three four five six seven eight entert"
    assert said(text) == "Next: home, Home. Recent: three four five six seven eight entert"
    assert ShortExplainer(words=2, guesses=1).said(moment(text)) == "Next: home. Recent: eight entert"


def test_line_breaks_are_words_and_control_tokens_are_none():
    assert said("the end.\n\nChap<|im_end|>ter\n").endswith("Recent: the end. | | Chapter |")
    assert said("a b", guesses=(("\n", 0.9), ("  ", 0.05))) == "Next: |. Recent: a b"


@pytest.mark.parametrize("text", ["", "   "])
def test_a_blank_text_still_has_an_explanation(text):
    assert said(text, guesses=()) == "Next: unclear. Recent: unclear"


def test_a_word_without_an_end_is_cut():
    assert said("x" * 500, guesses=()) == f"Next: unclear. Recent: {'x' * 20}"


def test_refusals():
    with pytest.raises(InputError, match="words"):
        ShortExplainer(words=0)
