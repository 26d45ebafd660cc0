"""Readers trained longer are scored on the stored rows, and heads that were left out stay left out."""

import dataclasses

import pytest
import torch

from lightning_modules.longer_arms import LONGER, LONGER_ROWS, train_longer
from lightning_modules.oracle_data import QUICK
from lightning_modules.rebuild_oracle import STORED_ROWS, rebuild_oracle
from lightning_modules.untrained_heads import UNTRAINED_ROWS, WITHOUT_HEADS, train_without_heads
from tests import zoo
from tl_nla.errors import InputError
from tl_nla.evaluation.oracle_rows import load_rows
from tl_nla.targets import load_target

FEW = dataclasses.replace(QUICK, documents=5, skip_documents=2, held_documents=3, held_positions=1, heldout_heads=0.0)
BARE = dataclasses.replace(FEW, arms=(), long_steps=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    zoo.save_target(path / "target")
    return path


def test_longer_readers_are_scored_on_the_stored_rows(folder):
    target = load_target(str(folder / "target"))
    with pytest.raises(InputError, match="rebuild-tiny --parts oracle"):
        train_longer(folder, FEW, target)
    rebuild_oracle(folder, BARE, 0, target)
    (stored,) = load_rows(folder / STORED_ROWS)
    settings = {name: getattr(LONGER, name) for name in ("arms", "kinds", "halved")}
    config = dataclasses.replace(FEW, documents=8, skip_documents=0, steps=6, own_steps=0, **settings)
    train_longer(folder, config, target)
    (longer,) = load_rows(folder / LONGER_ROWS)
    heads = stored.rows_of("head")
    assert 0 < len(heads) < len(stored.deviation)
    for name in ("deviation", "position", "document", "site"):
        assert torch.equal(getattr(longer, name), getattr(stored, name)[heads])
    trained = {*LONGER.arms, "explanation", "shuffled", "cat_and_shuffled"}
    assert set(longer.errors) == {"mean", *trained}
    assert all(longer.errors[arm].isfinite().all() for arm in trained)
    assert not torch.equal(longer.errors["cat_and_shuffled"], longer.errors["cat_and_explanation"])
    assert set(longer.curves) == set(LONGER.arms)
    for curve in longer.curves.values():
        assert curve[:, 0].tolist() == [1, 3, 6]
        assert curve[:, 1].isfinite().all()


def test_heads_left_out_are_scored_and_never_trained_on(folder):
    target = load_target(str(folder / "target"))
    config = dataclasses.replace(FEW, heldout_heads=WITHOUT_HEADS.heldout_heads, arms=("cat",), long_steps=0)
    trained = train_without_heads(folder, config, 1, target)
    (rows,) = load_rows(folder / UNTRAINED_ROWS)
    heads = [site for site, kind in zip(rows.sites, rows.kinds, strict=True) if kind == "head"]
    assert len(rows.untrained) == round(len(heads) / 4)
    assert set(rows.untrained) <= set(heads)
    assert {"cat", "explanation", "gold"} <= set(rows.errors)
    for head in rows.untrained:
        assert not trained.means[1 + rows.sites.index(head)].any()
        assert trained.means[0].any()
