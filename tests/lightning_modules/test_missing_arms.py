"""Arms added to stored rows are those that a whole training would have had."""

import copy
import dataclasses

import pytest
import torch

from lightning_modules import missing_arms
from lightning_modules.missing_arms import MISSING, add_missing_arms
from lightning_modules.oracle_data import QUICK
from lightning_modules.rebuild_oracle import STORED_ROWS, rebuild_oracle
from tests import zoo
from tl_nla.errors import InputError
from tl_nla.evaluation.oracle_rows import load_rows, save_rows
from tl_nla.targets import load_target

FEW = dataclasses.replace(QUICK, documents=5, skip_documents=2, held_documents=3, held_positions=1)
WITHOUT = dataclasses.replace(FEW, arms=("cat",), long_steps=0)
WHOLE = dataclasses.replace(FEW, arms=("cat", "state"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    zoo.save_target(path / "target")
    return path


def test_they_are_those_of_a_whole_training_and_are_added_once(folder, monkeypatch):
    target = load_target(str(folder / "target"))
    rebuild_oracle(folder, WHOLE, 0, target)
    (whole,) = load_rows(folder / STORED_ROWS)
    rebuild_oracle(folder, WITHOUT, 0, target)
    (before,) = load_rows(folder / STORED_ROWS)
    assert set(MISSING) & set(before.errors) == {"own_run"}
    del before.errors["own_run"]
    strong = {name for name in before.counts if name.endswith("sources_distant_strong")}
    for name in strong:
        del before.counts[name]
    save_rows([before], folder / STORED_ROWS)
    assert add_missing_arms(folder, WHOLE, 0, target) == MISSING
    (after,) = load_rows(folder / STORED_ROWS)
    for arm in MISSING:
        torch.testing.assert_close(after.errors[arm], whole.errors[arm], equal_nan=True)
    assert torch.equal(after.curves["state"], whole.curves["state"])
    assert {"explanation", "cat", "constant"} <= {name.split("/")[0] for name in strong}
    for name in strong:
        assert torch.equal(after.counts[name].nan_to_num(-1), whole.counts[name].nan_to_num(-1)), name
    assert all(torch.equal(after.errors[arm].nan_to_num(), error.nan_to_num()) for arm, error in before.errors.items())
    again = copy.deepcopy(after)
    del again.errors["own_run"]
    save_rows([again], folder / STORED_ROWS)
    assert add_missing_arms(folder, WHOLE, 0, target) == ("own_run",)
    (again,) = load_rows(folder / STORED_ROWS)
    assert torch.equal(again.errors["own_run"], after.errors["own_run"])
    monkeypatch.setattr(missing_arms, "capture", lambda *_: pytest.fail("nothing is missing"))
    assert add_missing_arms(folder, WHOLE, 0, target) == ()
    with pytest.raises(InputError, match="no rows of seed 5"):
        add_missing_arms(folder, WHOLE, 5, target)
