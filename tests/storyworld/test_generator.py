"""Stories: the same for the same numbers, too many to memorise, every planted fact told before it is needed."""

import os
import subprocess
import sys

import pytest

from tl_nla.storyworld.generator import join_words, write_story
from tl_nla.storyworld.lexicon import SLOTS
from tl_nla.storyworld.parser import parse
from tl_nla.storyworld.templates import TEMPLATES


@pytest.fixture(scope="module")
def stories():
    return [write_story(11, index) for index in range(120)]


def test_a_story_is_a_function_of_its_numbers(stories):
    assert [write_story(11, index) for index in range(20)] == stories[:20]
    assert write_story(12, 0) != stories[0]


def test_a_story_is_the_same_in_another_process():
    """String hashes differ between processes; nothing may depend on the order of a set."""
    code = "from tl_nla.storyworld.generator import write_story; print([write_story(3, i).text for i in range(30)])"
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    other = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": seed, "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    assert other.stdout.strip() == str([write_story(3, index).text for index in range(30)])


def test_there_are_more_than_a_billion_stories():
    """The bound counts two people in different places with different things in different colours, and two feelings."""
    count = len(SLOTS["feeling"]) ** 2
    for slot in ("A", "place", "object", "colour"):
        count *= len(SLOTS[slot]) * (len(SLOTS[slot]) - 1)
    assert count > 10**9


def test_no_two_of_many_stories_are_alike(stories):
    assert len({story.text for story in stories}) == len(stories)


def test_every_sentence_is_valid_to_the_parser(stories):
    for story in stories:
        parsed = parse(story.text)
        assert tuple(parsed.words) == story.words
        assert {sentence.verdict for sentence in parsed.sentences} == {"valid"}
        assert parsed.sentences[-1].end == len(story.words)


def test_recalls_are_answers_that_the_facts_before_them_decide(stories):
    tables = {"where": "at", "colour": "colour", "feeling": "feels", "inside": "inside", "who": "holder"}
    for story in stories:
        parsed = parse(story.text)
        by_end = {sentence.end: sentence for sentence in parsed.sentences}
        for recall in story.recalls:
            sentence, before = by_end[recall.word + 2], parsed.facts[recall.word - 1]
            assert story.words[recall.word] == recall.answer
            assert story.words[recall.seen] == recall.answer
            assert recall.answer not in story.words[recall.seen + 1 : recall.word]
            assert recall.told < recall.word
            assert sentence.template.claim == recall.claim
            values = sentence.values
            if recall.claim == "what":
                assert before.held_by(values["A"]) == [recall.answer]
            else:
                key = values["A"] if recall.claim in ("where", "feeling") else values["object"]
                assert getattr(before, tables[recall.claim])[key] == recall.answer


def test_facts_are_told_early_and_needed_late(stories):
    distances = [recall.word - recall.seen for story in stories for recall in story.recalls]
    assert sum(distance >= 20 for distance in distances) / len(distances) > 0.3
    assert {recall.claim for story in stories for recall in story.recalls} == {
        "where", "what", "colour", "feeling", "who", "inside",
    }  # fmt: skip


def test_questions_can_be_left_out():
    assert any("?" in write_story(5, index).text for index in range(20))
    assert not any("?" in write_story(5, index, questions=False).text for index in range(20))


def test_every_template_fills_its_slots_and_is_found_again():
    for template in TEMPLATES:
        values = {slot: SLOTS[slot][number] for number, slot in enumerate(template.slots())}
        text = join_words(template.fill(values))
        (sentence,) = parse(text).sentences
        assert (sentence.template, sentence.values) == (template, values)
