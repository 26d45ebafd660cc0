"""The demo says what ships and uses it; the weights are a random stand-in."""

import io
from dataclasses import make_dataclass
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.smollm2 import demo

Smol = make_dataclass("Smol", ["model", "tokenizer"])


class Says:
    """An oracle, and an NLA, that always say the same."""

    strength, layer, mean = None, 1, None

    def explain(self, write, before, **settings):
        return ["It writes an oracle's word."] * len(write)

    def generate(self, acts, progress=False):
        return SimpleNamespace(texts=["The NLA's word."] * len(acts), extracted=torch.ones(len(acts), dtype=torch.bool))

    def reconstruct(self, texts):
        return torch.ones(len(texts), zoo.D_MODEL)


@pytest.fixture
def stand_in(monkeypatch, get_model):
    model = get_model("bridge", "llama")
    monkeypatch.setattr(demo, "TEXT", "w4 w5 w6")
    monkeypatch.setattr(demo, "TARGET", "w7")
    smol = Smol(model, zoo.tokenizer())
    monkeypatch.setattr(demo, "load_smollm2", lambda: smol)
    return smol


def shown():
    out = io.StringIO()
    demo.run(Console(file=out, width=150))
    return " ".join(out.getvalue().split())


def test_without_parts_it_shows_labels_and_says_so(stand_in):
    found = shown()
    assert "w4 w5 w6" in found
    assert "direct adds up" in found
    assert "No oracle and no NLA ships with smollm2 yet: the words above are labels." in found


def test_a_part_that_this_installation_lacks_is_none():
    class Lacks:
        @property
        def nla(self):
            raise InputError("no NLA here")

    assert demo.shipped(Lacks(), "nla") is None
    assert demo.shipped(Lacks(), "oracle") is None


def test_parts_that_ship_are_used(stand_in):
    stand_in.oracle, stand_in.nla = Says(), Says()
    found = shown()
    assert "an oracle's word" in found
    assert found.count("The NLA's word.") >= 3  # one a token
    assert "ships" not in found
    stand_in.nla = None
    assert "No NLA ships with smollm2 yet." in shown()
