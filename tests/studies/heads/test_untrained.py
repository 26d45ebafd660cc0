"""Heads that were left out stay left out."""

import pytest

from docs.studies.heads.untrained import UNTRAINED_ROWS, WITHOUT_HEADS, train_without_heads
from docs.studies.oracle_rows import load_rows
from tests import zoo
from tests.lightning_modules.quick import quick
from tl_nla.model.targets import load_target


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    zoo.save_target(path / "target")
    return path


def test_heads_left_out_are_scored_and_never_trained_on(folder):
    target = load_target(str(folder / "target"))
    sizes = {"heldout_heads": WITHOUT_HEADS.sizes.heldout_heads}
    config = quick(sizes, {"long_context": 0}, None, arms=("cat",))
    trained = train_without_heads(folder, config, 1, target)
    (rows,) = load_rows(folder / UNTRAINED_ROWS)
    heads = [site for site, kind in zip(rows.sites, rows.kinds, strict=True) if kind == "head"]
    assert len(rows.untrained) == round(len(heads) / 4)
    assert set(rows.untrained) <= set(heads)
    assert {"cat", "explanation", "gold"} <= set(rows.errors)
    for head in rows.untrained:
        assert not trained.means[1 + rows.sites.index(head)].any()
        assert trained.means[0].any()
