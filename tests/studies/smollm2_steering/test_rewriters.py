"""What rewriters make of an explanation in the form of SmolLM2's NLA, and how strengths are chosen."""

import pytest
import torch

from docs.studies.smollm2_steering.arms import others_shift
from docs.studies.smollm2_steering.prompts import ASKED, DRAW, TAUGHT, asked
from docs.studies.smollm2_steering.rewriters import displace, expecting, rewriters
from docs.studies.smollm2_steering.table import best, chosen
from tl_nla.errors import InputError

SAID = "Next: a, not. Recent: I heard that it was"


def test_rewriters():
    arms = rewriters("yellow", "lemons", {SAID: "nice", "": "short"})
    found = {name: arm(SAID) for name, arm in arms.items()}
    assert found["append"] == f"{SAID} likes the colour yellow"
    assert found["displace"] == "Next: a, not. Recent: likes the colour yellow it was"
    assert found["next_only"] == "Next: yellow. Recent: I heard that it was"
    assert found["edit"] == found["quotes_removed"] == "Next: yellow. Recent: likes the colour yellow it was"
    assert "yellow" not in found["never_named"]
    assert (found["language_model"], found["language_model_instruction_only"]) == ("nice", "short")
    assert found["instruction_only"] == arms["instruction_only"]("anything else")
    assert displace("x")(expecting("y")(SAID)) == "Next: y. Recent: x it was"


def test_quotes_are_taken_out_before_the_edit():
    arms = rewriters("yellow", "lemons", {"": ""})
    assert arms["quotes_removed"]('Next: a. Recent: he said "yes now"') == (
        'Next: yellow. Recent: likes the colour yellow said ""'
    )


def test_changes_of_another_prompt_are_put_to_the_end():
    own, other = torch.ones(2, 1), torch.tensor([[1.0], [2.0], [3.0]])
    assert others_shift(own, other).flatten().tolist() == [2.0, 3.0]
    assert others_shift(other, own).flatten().tolist() == [0.0, 1.0, 1.0]


def _row(name, odds, nats):
    arms = {"unsteered@0/last": [0, 0, 0, 1, 0], "unsteered@0/all": [0, 0, 0, 1, 0], "prompt_edit": [3, 1, 1, 1.5, 1]}
    for strength, one, other in zip((1, 2), odds, nats, strict=True):
        arms |= {f"edit@{strength}/{place}": [one, 0, 0, other, 0] for place in ("last", "all")}
    return {"prompt": name, "arms": arms}


def test_the_strength_is_chosen_on_the_other_half_among_fluent_ones():
    calm, wild = _row("a", (1, 5), (1.2, 1.3)), _row("b", (1, 5), (1.2, 9.0))
    assert best([calm], "edit", "all") == "edit@2/all"
    assert best([wild], "edit", "all") == "edit@1/all"
    assert chosen([calm, wild], "edit", "all") == ["edit@1/all", "edit@2/all"]


def test_seeds_have_their_own_prompts():
    draws = [asked(seed) for seed in range(3)]
    assert [len(set(draw)) for draw in draws] == [DRAW] * 3
    assert len({text for draw in draws for text in draw} | set(TAUGHT)) == 3 * DRAW + len(TAUGHT)
    assert sum(draws, ()) == ASKED
    with pytest.raises(InputError, match="allowed: 0 to 2"):
        asked(3)
