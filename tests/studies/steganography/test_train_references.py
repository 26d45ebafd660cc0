"""Trained readers as references: who is scored by whom, and what readers of every wording have learned from."""

import pytest
import torch

from docs.studies.steganography.train_references import References, ReferencesConfig
from docs.studies.tiny.rebuild import RebuildConfig
from docs.studies.warm_pairs import WarmPairs
from tl_nla.errors import InputError

CONFIG = ReferencesConfig(
    documents=3, positions=2, warm_start=2, accomplice_steps=2, states=70, detectors=("wording", "falsehood")
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return WarmPairs(tmp_path_factory.mktemp("pairs"), RebuildConfig(documents=40, positions=2))


@pytest.mark.slow
def test_every_writer_has_a_score_of_every_document_under_every_detector(pairs):
    found = References(pairs, 1, CONFIG).warm_started()
    assert set(found) == {"written", "explanation", "full"}
    assert all(set(by) == set(CONFIG.detectors) for by in found.values())
    assert all(by["wording"].shape == (3,) and torch.isfinite(by["wording"]).all() for by in found.values())
    assert float(found["written"]["falsehood"].max()) == 0 < float(found["full"]["falsehood"].min())


def test_readers_of_every_wording_are_trained_on_other_words_of_the_same_states(pairs, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "docs.studies.steganography.train_references.trained_reader",
        lambda pair, data, states, texts, *rest: seen.append((states, texts)) or pair,
    )
    References(pairs, 0, ReferencesConfig(documents=3, warm_start=2, states=4, reworded_steps=5))
    assert len(seen) == 3, "the seed's own reader and both references"
    states, texts = seen[0]
    assert len(texts) == len(states.acts) == len(states.document) == 32
    assert torch.equal(states.acts[:4], states.acts[28:])
    assert len({texts[row] for row in range(0, 32, 4)}) > 1, "several wordings of one state"
    assert all(text != written for text, written in zip(texts, states.explanations, strict=True))


def test_a_seed_without_a_pair_is_refused(pairs):
    with pytest.raises(InputError, match=r"three pairs: \(0, 1, 2\)"):
        References(pairs, 3, CONFIG)
