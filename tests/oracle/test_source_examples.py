"""Examples for the encoder of sources against the labels that captures make of the same writes."""

import pytest
import torch

from tests.oracle.test_capture import documents
from tl_nla.errors import InputError
from tl_nla.oracle.capture import CaptureConfig, capture_writes
from tl_nla.oracle.source_examples import source_examples

SITES = ["blocks.1.attn.head.2", "blocks.0.mlp", "blocks.1.attn", "blocks.2"]


def test_they_are_the_writes_and_sources_of_a_capture(model, tokenizer):
    docs, config = documents(), CaptureConfig(positions_per_document=3, batch_size=2, skips=False)
    found = source_examples(model, tokenizer, docs, SITES, config)
    known = capture_writes(model, tokenizer, docs, [SITES[0], SITES[2]], config)
    assert len(found) == len(known) == 5 * 3 * 2
    torch.testing.assert_close(found.before.float(), known.before, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(found.write.float(), known.write, rtol=2e-3, atol=2e-3)
    some = 0
    for row in range(len(known)):
        words = {f"w{token}" for token in found.words[row].tolist() if token >= 0}
        assert words == set(known.answers[row]["sources"].tokens)
        some += bool(words)
    assert some


def test_spellings_of_one_word_are_one(llama, tokenizer):
    from tl_nla.oracle.labels import Vocabulary

    docs, config = documents(), CaptureConfig(positions_per_document=3, skips=False)
    plain = source_examples(llama, tokenizer, docs, SITES, config)
    size = int(llama.cfg.d_vocab)
    texts = tuple(("A" if token % 2 else "a") if token > 3 else "" for token in range(size))
    merged = Vocabulary(texts, torch.zeros(size, dtype=torch.long), torch.ones(size, dtype=torch.bool))
    found = source_examples(llama, tokenizer, docs, SITES, config, merged)
    assert set(found.words[found.words >= 0].tolist()) == {4}
    assert torch.equal((found.words >= 0), (plain.words > 3))


def test_parts_that_read_no_other_position_are_refused(llama, tokenizer):
    with pytest.raises(InputError, match="no head and no attention"):
        source_examples(llama, tokenizer, documents(), ["blocks.0.mlp"])
