"""Planted facts of the stories: the answer was told, long before, and comes next."""

from tl_nla.plugins import embedded
from tl_nla.storyworld.generator import write_story
from tl_nla.storyworld.planted import _LATE, _STRIDE, planted


def test_the_answer_comes_next_and_was_told_long_before():
    facts = embedded("tiny").planted(8, 3)
    assert facts == planted(8, 3) != planted(8, 4)
    stories = {index + 1: write_story(embedded("tiny").HELD_OUT_SEED, index).text
               for index in range(_LATE + 3 * _STRIDE, _LATE + 3 * _STRIDE + 40)}  # fmt: skip
    for fact in facts:
        assert stories[fact.document].startswith(fact.text + fact.answer)
        words = fact.text.replace(".", " .").split()
        assert fact.answer.strip() in words
        assert fact.answer.strip() not in words[-14:]
        assert len(set(fact.options)) == 10
        assert fact.answer in fact.options
