"""Forms of answers, and last words that are said before the explanation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.faithfulness.test_abstention import TOKENIZER
from tl_nla.errors import InputError
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.generation import Responses
from tl_nla.nla.sure_words import leave_out, sure_tokens
from tl_nla.nla.verbalizer import Generation

PLANNED = AnswerRule("all", plan=2)
TEXT = "Recent words: Tom at the park"
_WORDS = st.lists(st.text("abc:.,|", min_size=1, max_size=4), min_size=1, max_size=6).map(" ".join)


def test_the_last_words_are_said_first_and_are_no_part_of_the_explanation():
    text = "Next: home, bed. Recent: she went back to her old"
    assert PLANNED.wrap(text) == f"old her\n{text}"
    assert PLANNED.extract(f"old her\n{text}") == text
    assert PLANNED.extract(text) is None, "without its plan"
    assert AnswerRule("all").planned(text) == []
    assert AnswerRule("all").wrap(text) == text


@pytest.mark.parametrize("form", ["tags", "opened", "lines", "bullets", "all"])
@pytest.mark.parametrize("plan", [0, 1, 3])
@given(text=_WORDS)
def test_every_explanation_comes_back(form, plan, text):
    rule = AnswerRule(form, plan=plan)
    assert rule.extract(rule.wrap(text)) == text
    assert rule.planned(text) == text.split()[::-1][:plan]


def test_a_plan_is_a_number_of_words():
    with pytest.raises(InputError, match="plan"):
        AnswerRule("all", plan=-1)


def spoken(plan, words, rule=PLANNED):
    """A generation of one row: plan and explanation, each piece with its probability."""
    pieces = [*plan, ("\n", 1.0), *words]
    ids = [TOKENIZER.encode(piece, add_special_tokens=False) for piece, _ in pieces]
    logprobs = [
        [math.log(probability) / len(own)] * len(own) for own, (_, probability) in zip(ids, pieces, strict=True)
    ]
    row, logprobs = (torch.tensor([one for own in parts for one in own])[None] for parts in (ids, logprobs))
    every = torch.ones_like(row, dtype=torch.bool)
    responses = Responses(row, every, logprobs, every[:, 0])
    text = rule.extract(TOKENIZER.decode(row[0]))
    return Generation([text], torch.tensor([True]), responses, rule)


def marked(case, threshold):
    return leave_out(case.texts[0], sure_tokens(case, TOKENIZER)[0], threshold)


SAID = (("Recent words:", 1.0), (" Tom", 0.7), (" at", 1.0), (" the", 0.9), (" park", 0.95))


def test_a_planned_word_is_as_sure_as_when_it_was_planned():
    case = spoken([(" park", 0.3), (" the", 0.8)], SAID)
    assert case.texts == [TEXT]
    assert marked(case, 0.2) == TEXT
    assert marked(case, 0.5) == "Recent words: Tom at the …", "said with .95, planned with .3"
    assert marked(case, 0.71) == "Recent words: … at the …"
    assert marked(case, 0.75) == "Recent words: … at …", "the: .72"
    assert marked(spoken([(" park", 0.8), (" the", 0.8)], SAID), 0.5) == TEXT


def test_a_plan_that_was_not_kept_says_nothing_about_the_words():
    assert marked(spoken([(" farm", 0.1), (" the", 0.9)], SAID), 0.5) == TEXT


def test_without_a_plan_nothing_changes():
    case = spoken([(" park", 0.3), (" the", 0.8)], SAID)
    plain = Generation(case.texts, case.extracted, case.responses)
    assert marked(plain, 0.5) == TEXT
