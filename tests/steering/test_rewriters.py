"""Rewriters change what they name and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.errors import InputError
from tl_nla.steering import (
    append,
    compose,
    dry_run,
    expect,
    from_pipeline,
    outside_quotes,
    parse_rewrite,
    substitute,
    swap,
    without_quotes,
)
from tl_nla.storyworld.claims import parse_claims

TEXT = 'Recent words: " The kite was". Next: surely " red" or " blue". The kite is red.'


def test_whole_words_only():
    assert substitute({"red": "yellow"})("red, redder, bored red") == "yellow, redder, bored yellow"


@pytest.mark.usefixtures("unchecked")
def test_words_to_replace_are_a_mapping():
    with pytest.raises(InputError, match=r"are str \('red->yellow'\)"):
        substitute("red->yellow")


def test_all_at_once():
    assert swap("red", "blue")("red blue red") == "blue red blue"
    assert parse_rewrite("a->b, b->a")("a b") == "b a"


def test_outside_of_quotes_only():
    changed = outside_quotes(substitute({"red": "pink", "kite": "drum"}))(TEXT)
    assert changed == 'Recent words: " The kite was". Next: surely " red" or " blue". The drum is pink.'
    assert outside_quotes(str.upper)('a "b" c "d') == 'A "b" C "D'


@given(st.text())
def test_swapping_twice_changes_nothing(text):
    assert swap("red", "blue")(swap("red", "blue")(text)) == text


def test_expectation_is_displaced():
    text = expect("yellow")(TEXT)
    assert [claim.value for claim in parse_claims(text) if claim.type == "next"] == [" yellow"]
    assert text.endswith("The kite is red.")
    assert 'Next: surely " yellow".' in expect(" yellow")("This is about Tom.")


def test_composition_and_dry_run():
    rewrite = compose(parse_rewrite("red->yellow"), append("It is summer."), without_quotes)
    assert dry_run(rewrite, [TEXT]) == [
        (TEXT, 'Recent words: "". Next: surely "" or "". The kite is yellow. It is summer.')
    ]


def test_a_pipeline_sees_the_instruction_and_the_explanation_only():
    seen = []

    def pipeline(prompt, **settings):
        seen.append(prompt)
        return [{"generated_text": " The kite is pink. "}]

    assert from_pipeline(pipeline, "Make it pink: {explanation}")(TEXT) == "The kite is pink."
    assert seen == [f"Make it pink: {TEXT}"]
    with pytest.raises(InputError, match="explanation"):
        from_pipeline(pipeline, "Make it pink")


@pytest.mark.parametrize("text", ["red yellow", "->yellow", ""])
def test_bad_rewrites(text):
    with pytest.raises(InputError, match="red->yellow"):
        parse_rewrite(text)
