"""The demo says what ships and uses it; the weights are a random stand-in."""

import io
from dataclasses import make_dataclass
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.nla import Generation
from tl_nla.nla.generation import Responses
from tl_nla.smollm2 import demo

Smol = make_dataclass("Smol", ["model", "tokenizer"])


class Says:
    """An oracle, and an NLA that is sure of its first word only; they always say the same."""

    strength, layer, mean = None, 1, None
    verbalizer = SimpleNamespace(tokenizer=zoo.tokenizer())

    def explain(self, write, before, **settings):
        return ["It writes an oracle's word."] * len(write)

    def generate(self, acts, progress=False):
        ids = torch.tensor(self.verbalizer.tokenizer.encode("w8 w9", add_special_tokens=False)).expand(len(acts), -1)
        every = torch.ones(ids.shape, dtype=torch.bool)
        sure = torch.tensor([0.9, 0.1]).log().expand(len(acts), -1)
        return Generation(["w8 w9"] * len(acts), every[:, 0], Responses(ids, every, sure, every[:, 0]))

    def reconstruct(self, texts, batch_size=256):
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
    assert found.count("w8 …") >= 3  # one a token
    assert "ships" not in found
    stand_in.nla = None
    assert "No NLA ships with smollm2 yet." in shown()
