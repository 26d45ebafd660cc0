"""The truth of any text: as the generator keeps it, never ahead of the words read."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_nla.data.words import split_words
from tl_nla.storyworld.facts import Facts
from tl_nla.storyworld.generator import _Writer, join_words, write_story
from tl_nla.storyworld.lexicon import SLOTS
from tl_nla.storyworld.parser import facts_at, parse
from tl_nla.storyworld.templates import TEMPLATES

WORLD = sorted(
    {word for options in SLOTS.values() for word in options} | {w for t in TEMPLATES for w in t.words if w[0] != "{"}
)


def told(facts: Facts):
    return facts.at, facts.feels, facts.holder, facts.inside, facts.colour


@given(seed=st.integers(0, 10**6))
def test_facts_from_the_text_are_the_writers_own(seed):
    """Random tell sentences, not only those that the generator would choose, in any order."""
    writer = _Writer(random.Random(seed))
    for _ in range(8):
        template = writer.rng.choice([t for t in TEMPLATES if t.kind in ("tell", "filler")])
        writer.write(template, {})
        assert told(parse(join_words(writer.words)).facts[-1]) == told(writer.facts)
    assert parse(join_words(writer.words)).facts[-1].told == writer.facts.told


@settings(max_examples=40)
@given(index=st.integers(0, 10**6), cut=st.floats(0, 1))
def test_a_story_cut_short_gives_the_same_facts(index, cut):
    """The prefix property: nothing after a position enters its truth."""
    text = write_story(21, index).text
    end = int(cut * len(text))
    spans = [(left, right) for _, left, right in split_words(text)]
    if any(left < end < right for left, right in spans):  # a word cut in two is another word
        end = next(left for left, right in spans if left < end < right)
    assert facts_at(parse(text), end) == facts_at(parse(text[:end]), end)


@given(words=st.lists(st.sampled_from(WORLD), max_size=25), more=st.lists(st.sampled_from(WORLD), max_size=8))
def test_what_follows_changes_nothing_before(words, more):
    whole, start = parse(join_words([*words, *more])), parse(join_words(words))
    assert whole.facts[: len(words)] == start.facts
    assert whole.sentences[: len(start.sentences)] == start.sentences


@given(text=st.text(max_size=60))
def test_any_text_can_be_parsed(text):
    parsed = parse(text)
    assert len(parsed.words) == len(parsed.spans) == len(parsed.facts)
    assert all(text[left:right] == word for word, (left, right) in zip(parsed.words, parsed.spans, strict=True))


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("Tom felt sad. Tom looked sad.", ["valid", "valid"]),
        ("Tom felt sad. Tom looked happy.", ["valid", "false"]),
        ("Tom looked happy.", ["unfounded"]),
        ("Tom felt sad. Now Tom felt happy. Tom looked sad.", ["valid", "valid", "false"]),
        ("Tom sad felt.", ["ungrammatical"]),
        ("Tom had a ball painted red. Tom gave the ball to Lily. The ball belonged to Tom.",
         ["valid", "valid", "false"]),
        ("Tom had a ball painted red. Which colour is the ball? It is blue.", ["valid", "false"]),
        ("Tom had a ball painted red. Tom put the ball in the box. The ball belonged to Tom.",
         ["valid", "valid", "unfounded"]),
        ("A dog ran by. nonsense! Tom felt", ["valid", "ungrammatical"]),
    ],
)  # fmt: skip
def test_verdicts(text, verdicts):
    assert [sentence.verdict for sentence in parse(text).sentences] == verdicts


def test_a_wrong_recall_tells_nothing():
    facts = parse("Tom felt sad. Tom looked happy.").facts[-1]
    assert facts.feels == {"Tom": "sad"}


def test_something_put_away_has_no_holder_and_the_reverse():
    text = "Tom had a ball painted red. Tom put the ball in the box."
    facts = parse(text).facts[-1]
    assert (facts.holder, facts.inside) == ({}, {"ball": "box"})
    facts = parse(text + " Lily found a ball painted blue.").facts[-1]
    assert (facts.holder, facts.inside, facts.colour) == ({"ball": "Lily"}, {}, {"ball": "blue"})
    assert (facts.person, facts.object) == ("Lily", "ball")


def test_an_unfinished_word_tells_nothing():
    parsed = parse("Tom felt sad.")
    assert facts_at(parsed, len("Tom felt sa")).feels == {}
    assert facts_at(parsed, len("Tom felt sad")).feels == {"Tom": "sad"}
