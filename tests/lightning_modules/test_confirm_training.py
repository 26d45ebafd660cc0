"""Kept pairs are scored as they are, by seed and together."""

import pytest

from lightning_modules.confirm_training import ARMS, confirm, fresh_states
from tl_nla.errors import InputError
from tl_nla.metrics import squared_deviations, squared_errors
from tl_nla.storyworld.tiny import load_tiny


def test_every_arm_and_seed_has_its_fve(tmp_path):
    nla, states = load_tiny().nla, fresh_states(3)
    for inside in ARMS.values():
        nla.save_pretrained(tmp_path / "training-0" / inside)
    found = confirm(tmp_path, states)
    assert list(found) == ["warm_start/0", "warm_start", "explanation/0", "explanation"]
    errors = squared_errors(nla.reconstruct(nla.verbalize(states.acts, max_new_tokens=110)), states.acts)
    wanted = 1 - float(errors.sum() / squared_deviations(states.acts, nla.mean).sum())
    assert found["explanation"][0] == pytest.approx(wanted, abs=1e-3)
    assert found["explanation"][1] <= wanted <= found["explanation"][2]


def test_a_folder_without_pairs_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"in .*; run python"):
        confirm(tmp_path, fresh_states(1))
