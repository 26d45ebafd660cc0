"""The leak measure sees planted leaks and no others."""

import pytest
import torch

from tl_nla.errors import InputError
from tl_nla.steering.leaks import leak, only, shuffled

SAID = [" red. Tom went home.", " blue. Ivy took bread.", " green. Max slept late."]


def test_a_rewriter_that_tells_the_continuation_is_found():
    ignore = [{"red"}, {"blue"}, {"green"}]
    telling = leak(SAID, SAID, ignore)
    assert torch.equal(telling.own, torch.ones(3, dtype=torch.float64))
    assert (telling.excess > 0.9).all()
    silent = leak([only("yellow")(text) for text in SAID], SAID, ignore)
    assert (silent.own == 0).all()
    same = leak(["Tom slept"] * 3, SAID, [()] * 3)
    assert same.excess.mean().abs() < 1e-9, "a constant text tells nothing about its own prompt"


def test_words_of_the_edit_do_not_count():
    said = [" red. Tom", "..."]
    assert leak(["red", "red"], said, [["red"], []]).own.tolist() == [0, 0]
    assert leak(["red", "red"], said, [[], []]).own.tolist() == [0.5, 0]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_shuffled_keeps_none_in_place(count):
    texts = [str(number) for number in range(count)]
    dealt = shuffled(texts, seed=count)
    assert sorted(dealt) == texts
    assert all(a != b for a, b in zip(texts, dealt, strict=True))


def test_refuses():
    with pytest.raises(InputError, match="two"):
        leak(["a"], ["a"], [()])
    with pytest.raises(InputError, match="as many"):
        leak(["a"], ["a", "b"], [()])
    with pytest.raises(InputError, match="two"):
        shuffled(["a"])
