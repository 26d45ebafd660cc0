"""The suite's prompts are what it says they are, and its arms tell steering from noise."""

import pytest

from tl_nla.errors import InputError
from tl_nla.evaluation.steering_suite import ATTRIBUTES, evaluate, find_cases
from tl_nla.storyworld.recalls import held_out_stories
from tl_nla.storyworld.tiny import load_tiny


def test_prompts_end_before_a_word_that_was_told():
    tiny = load_tiny()
    cases = find_cases(tiny.model, tiny.tokenizer, 12)
    assert {case.attribute for case in cases} == set(ATTRIBUTES)
    stories = held_out_stories(60)
    for case in cases:
        text = tiny.tokenizer.decode(case.ids, skip_special_tokens=True)
        story = stories[case.story].text
        assert story.startswith(f"{text} {case.answer}")
        assert f" {case.answer}" in text
        assert f" {case.target}" not in story


def test_arms():
    results = evaluate(prompts=3, training_stories=15)
    success = {row.arm: row.value for row in results.rows if row.metric == "success"}
    assert success["unsteered"] == success["round_trip"] == 0
    assert success["edit_delta"] > success["random_direction"]
    kl = {row.arm: row.value for row in results.rows if row.metric == "kl"}
    assert kl["unsteered"] == 0 < kl["round_trip"] < kl["edit_delta"]


@pytest.mark.parametrize(("settings", "says"), [({"model": "gpt2"}, "embedded"), ({"prompts": 1}, "prompts")])
def test_refuses(settings, says):
    with pytest.raises(InputError, match=says):
        evaluate(**settings)
