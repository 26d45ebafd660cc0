"""Rates by class."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

CLASSES = ("who", "place", "colour")


@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.booleans()), max_size=30), st.integers(0, 30))
def test_rates_are_counts(items, cut):
    from tl_nla.metrics import ClasswiseRate

    metric = ClasswiseRate(CLASSES, prefix="claim_precision/")
    for part in (items[:cut], items[cut:]):
        metric.update([name for name, _ in part], [right for _, right in part])
    expected = {}
    for name in CLASSES:
        found = [right for n, right in items if n == name]
        if found:
            expected[f"claim_precision/{name}"] = sum(found) / len(found)
    assert {k: v.item() for k, v in metric.compute().items()} == pytest.approx(expected)


def test_indices_and_overall():
    from tl_nla.metrics import ClasswiseRate

    metric = ClasswiseRate(CLASSES)
    metric.update(torch.tensor([0, 0, 2]), torch.tensor([True, False, True]))
    assert metric.overall().item() == pytest.approx(2 / 3)
    assert {k: v.item() for k, v in metric.compute().items()} == {"who": 0.5, "colour": 1.0}


def test_refuses():
    from tl_nla.errors import InputError
    from tl_nla.metrics import ClasswiseRate

    metric = ClasswiseRate(CLASSES)
    with pytest.raises(InputError, match="nearest: place"):
        metric.update(["plce"], [True])
    with pytest.raises(InputError, match="2 classes for 1"):
        metric.update(["who", "who"], [True])
    with pytest.raises(InputError, match="distinct"):
        ClasswiseRate(["a", "a"])
    with pytest.raises(InputError, match=r"0\.\.2"):
        metric.update(torch.tensor([3]), torch.tensor([True]))
