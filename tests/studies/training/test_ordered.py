"""Texts in other orders and cut, and the warm start that they are for."""

import random

import pytest
import torch

from docs.studies.training.ordered import OrderedConfig, cut_texts, ordered_warm_start, reorder
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.training.nla_training import load_pair
from tl_nla.data import ExplainedStates
from tl_nla.faithfulness.clauses import split_clauses
from tl_nla.storyworld.claims import Truth, parse_claims
from tl_nla.storyworld.facts import Facts

TEXT = 'Recent words: " red. Tom was". Next: surely " in" or ".". This is about Tom. Tom feels sad.'


def test_orders_move_whole_clauses():
    assert reorder([TEXT], "recent_first", 0) == [TEXT]
    (first,) = reorder([TEXT], "next_first", 0)
    assert first == 'Next: surely " in" or ".". Recent words: " red. Tom was". This is about Tom. Tom feels sad.'
    shuffled = reorder([TEXT] * 50, "shuffled_order", 0)
    assert len(set(shuffled)) > 10
    assert reorder([TEXT] * 50, "shuffled_order", 0) == shuffled != reorder([TEXT] * 50, "shuffled_order", 1)
    for text in (first, *shuffled):
        assert set(parse_claims(text)) == set(parse_claims(TEXT))
        assert sorted(clause.text for clause in split_clauses(text)) == sorted(
            clause.text for clause in split_clauses(TEXT)
        )


def test_texts_are_cut_between_the_two_ends():
    tokenizer = load_pair("tiny").verbalizer.tokenizer
    cut = cut_texts([TEXT] * 400, tokenizer, 2, 12, 0)
    assert all(TEXT.startswith(text) for text in cut)
    lengths = [len(tokenizer.encode(text, add_special_tokens=False)) for text in cut]
    assert (min(lengths), max(lengths)) == (2, 12)
    assert lengths.count(2) > 2 * lengths.count(11), "log-uniform"


@pytest.mark.parametrize("order", ["recent_first", "shuffled_order"])
def test_the_warm_start_teaches_the_reader_cut_texts_and_the_writer_whole_ones(order, monkeypatch):
    chance = random.Random(0)
    states = ExplainedStates(
        torch.randn(128, 128, generator=torch.Generator().manual_seed(0)),
        [TEXT.replace("Tom", chance.choice(["Tom", "Mia"])) for _ in range(128)], [Truth(Facts(), "")] * 128,
        ["x"] * 128, torch.arange(128), torch.arange(128),
    )  # fmt: skip
    data = ActivationDataModule()
    data.train_states = data.heldout_states = states
    shipped, read, written = load_pair("tiny"), [], []
    reader, writer = type(shipped.reconstructor), type(shipped.verbalizer)
    encode, respond = reader.encode, writer.encode_responses
    monkeypatch.setattr(reader, "encode", lambda self, texts: read.extend(texts) or encode(self, texts))
    monkeypatch.setattr(writer, "encode_responses", lambda self, texts: written.extend(texts) or respond(self, texts))
    pair = ordered_warm_start(order, data, OrderedConfig(steps=1), 0)
    assert max(map(len, read)) <= len(TEXT)
    assert min(map(len, read)) < 40
    assert data.train_states.explanations[0].startswith("Recent words"), "the data are left as they were"
    kept = all(
        torch.equal(value, pair.verbalizer.state_dict()[name])
        for name, value in shipped.verbalizer.state_dict().items()
    )
    if order == "recent_first":
        assert kept
        assert not written
    else:
        assert not kept
        assert {len(text) for text in written} == {len(TEXT)}
        assert not all(text.startswith("Recent") for text in written)
