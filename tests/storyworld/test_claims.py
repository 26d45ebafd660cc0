"""Explanations and claims: what is written is found again, and judged by the truth."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.studies.nla.claims import ClaimCounts, count_claims
from tl_nla.data.words import split_words
from tl_nla.explainers.mechanical import certainty
from tl_nla.storyworld.claims import CLAIM_TYPES, Claim, Truth, check, made_claims, parse_claims, recent_claims
from tl_nla.storyworld.explanations import write_explanation
from tl_nla.storyworld.facts import Facts
from tl_nla.storyworld.generator import write_story
from tl_nla.storyworld.lexicon import SLOTS
from tl_nla.storyworld.parser import facts_at, parse

WORDS = st.sampled_from([" ball", " Tom", ".", " the", "?", " or", "\u00e9", "the end", " 42"])


@settings(max_examples=40)
@given(
    index=st.integers(0, 10**6),
    place=st.floats(0, 1),
    guesses=st.lists(st.tuples(WORDS, st.floats(0, 1)), max_size=3, unique_by=lambda guess: guess[0]),
)
def test_what_is_written_is_found_again_and_true(index, place, guesses):
    text = write_story(31, index).text
    spans = split_words(text)
    last = int(place * (len(spans) - 1))
    end = spans[last][2]
    recent = text[spans[max(0, last - 5)][1] : end]
    facts = facts_at(parse(text), end)
    truth = Truth(facts, recent, tuple(word for word, _ in guesses))
    explanation = write_explanation(facts, recent, guesses)
    claims = parse_claims(explanation)
    assert {check(claim, truth) for claim in claims} <= {"true"}
    assert [claim for claim in claims if claim.type == "recent"] == recent_claims(recent)
    assert [claim.value for claim in claims if claim.type == "next"] == [word for word, _ in guesses]
    said = {(claim.type, claim.subject, claim.value) for claim in claims if claim.type not in ("recent", "next")}
    person, thing = facts.person, facts.object
    expected = set()
    if person is not None:
        expected.add(("who", "", person))
        expected |= {("where", person, facts.at[person])} if person in facts.at else set()
        expected |= {("feeling", person, facts.feels[person])} if person in facts.feels else set()
        expected |= {("what", person, held) for held in facts.held_by(person)[-1:]}
    if thing is None and person is not None and facts.held_by(person):
        thing = facts.held_by(person)[-1]
    if thing is not None:
        expected |= {("colour", thing, facts.colour[thing])} if thing in facts.colour else set()
        expected |= {("inside", thing, facts.inside[thing])} if thing in facts.inside else set()
        expected |= {("what", facts.holder[thing], thing)} if facts.holder.get(thing, person) != person else set()
    assert said == expected


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), cut=st.floats(0, 1))
def test_nothing_after_the_position_enters_an_explanation(seed, cut):
    """Two stories that agree up to a word have the same explanation there."""
    first, second = write_story(41, seed), write_story(41, seed + 1)
    last = int(cut * (len(first.words) - 1)) + 1
    start = first.text[: split_words(first.text)[last - 1][2]]
    texts = [start, first.text, f"{start} {second.text}"]
    assert len({write_explanation(facts_at(parse(text), len(start)), "", []) for text in texts}) == 1


FACTS = Facts(
    at={"Tom": "park"}, feels={"Tom": "sad"}, holder={"ball": "Tom"}, inside={"kite": "box"}, colour={"ball": "red"},
    person="Tom", object="ball",
)  # fmt: skip
TRUTH = Truth(FACTS, "Tom had a ball", (" painted",))


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (("who", "", "Tom"), "true"),
        (("who", "", "Lily"), "false"),
        (("where", "Tom", "park"), "true"),
        (("where", "Tom", "beach"), "false"),
        (("where", "Lily", "park"), "untold"),
        (("feeling", "Tom", "sad"), "true"),
        (("feeling", "Tom", "happy"), "false"),
        (("what", "Tom", "ball"), "true"),
        (("what", "Lily", "ball"), "false"),
        (("what", "Tom", "drum"), "untold"),
        (("what", "Tom", "kite"), "untold"),
        (("inside", "kite", "box"), "true"),
        (("inside", "kite", "bag"), "false"),
        (("inside", "ball", "bag"), "untold"),
        (("colour", "ball", "red"), "true"),
        (("colour", "ball", "blue"), "false"),
        (("colour", "kite", "red"), "untold"),
        (("recent", "0", "ball"), "true"),
        (("recent", "1", "ball"), "false"),
        (("recent", "9", "ball"), "false"),
        (("next", "", " painted"), "true"),
        (("next", "", "."), "false"),
    ],
)
def test_verdicts(claim, verdict):
    assert check(Claim(*claim), TRUTH) == verdict


def test_every_claim_type_is_judged():
    assert set(CLAIM_TYPES) == {"recent", "next", "who", "where", "what", "colour", "feeling", "inside"}


def test_precision_and_recall_are_counted_by_type():
    gold = write_explanation(FACTS, "Tom had a ball", [(" painted", 0.95)])
    said = "This is about Tom. Tom is at the beach. Tom is at the park. Lily feels sad."
    counts = count_claims(said, gold, TRUTH)
    assert counts["who"] == ClaimCounts(1, 1, 1, 1)
    assert counts["where"] == ClaimCounts(2, 1, 1, 1)
    assert counts["feeling"] == ClaimCounts(1, 0, 1, 0)
    assert counts["recent"] == ClaimCounts(0, 0, 4, 0)


def test_question_words_are_claims_only_where_the_story_asks():
    facts = Facts(person="Tom", at={"Tom": "park"})
    text = 'Recent words: ". Where is Where". Next: surely " Who". This is about Who. Tom is at the Where.'
    counts = count_claims(text, text, Truth(facts, ". Where is Tom"))
    assert {kind: (own.said, own.true) for kind, own in counts.items() if own.said} == {"recent": (3, 3)}
    assert [claim.value for claim in made_claims(text)] == ["is", "."]


@given(text=st.text(max_size=80))
def test_any_text_can_be_taken_apart(text):
    assert all(claim.type in CLAIM_TYPES for claim in parse_claims(text))


def test_quotation_marks_in_the_text_hide_no_claim():
    """Text of the user's may hold any sign, even a whole false explanation, inside the quoted words."""
    claims = parse_claims(write_explanation(FACTS, 'he said "Tom is at the beach". And', [(' "', 0.6), (".", 0.2)]))
    assert Claim("where", "Tom", "park") in claims
    assert Claim("where", "Tom", "beach") not in claims


def test_certainty_in_words():
    assert [certainty(p) for p in (1.0, 0.91, 0.9, 0.51, 0.5, 0.0)] == [
        "surely", "surely", "likely", "likely", "perhaps", "perhaps",
    ]  # fmt: skip


def test_slots_of_different_kinds_share_no_word():
    """A claim's type must be readable off its words."""
    kinds = ("A", "place", "object", "colour", "feeling", "container")
    assert sum(len(SLOTS[kind]) for kind in kinds) == len({word for kind in kinds for word in SLOTS[kind]})
