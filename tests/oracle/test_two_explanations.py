from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.errors import InputError
from tl_nla.oracle.two_explanations import UNCHANGED, explain_twice, word_differ


class Namer:
    """Says the vector's first number, or a random one above temperature 0."""

    def generate(self, acts, temperature=0.0, generator=None):
        drawn = torch.rand(len(acts), generator=generator) if temperature else acts[:, 0]
        return SimpleNamespace(texts=[f"It is {value:.3f}." for value in drawn.tolist()])

    def reconstruct(self, texts):
        return torch.tensor([[float(text.split()[2].rstrip("."))] for text in texts])


def test_what_came_and_what_went():
    assert (
        word_differ("Tom is sad. The cup is red.", "The cup is red. Tom is happy")
        == "gains Tom is happy; loses Tom is sad"
    )
    assert word_differ("Tom is SAD;", "tom  is sad") == UNCHANGED


@given(st.text(), st.text())
def test_exchanged_texts_exchange_the_sides(one, two):
    there, back = word_differ(one, two), word_differ(two, one)
    swap = {"gains": "loses", "loses": "gains"}
    assert {tuple([swap[part.split(" ", 1)[0]], part.split(" ", 1)[1]]) for part in _sides(there)} == {
        tuple(part.split(" ", 1)) for part in _sides(back)
    }
    assert word_differ(one, one) == UNCHANGED


def _sides(text):
    return [] if text == UNCHANGED else text.split("; ")


def test_the_same_vector_twice_is_unchanged_when_greedy_and_not_when_sampled():
    acts = torch.randn(5, 3)
    assert all(explain_twice(Namer(), acts, acts).unchanged)
    sampled = explain_twice(Namer(), acts, acts, temperature=1.0, generator=torch.Generator().manual_seed(0))
    assert not any(sampled.unchanged)


def test_any_differ():
    before, after = torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [2.0]])
    told = explain_twice(Namer(), before, after, differ=lambda one, two: "Unchanged." if one == two else "more")
    assert told.change == ["more", "Unchanged."]
    assert told.unchanged == [False, True]
    with pytest.raises(InputError, match="have shape"):
        explain_twice(Namer(), before, after[:1])
