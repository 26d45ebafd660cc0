"""The baseline of two explanations on the embedded default."""

import torch

from docs.studies.layers.two_explanations import scaled_change, two_explanations_rows
from tl_nla.oracle.two_explanations import TwoExplanations
from tl_nla.storyworld.tiny import load_tiny


def test_two_explanations_are_scored_beside_their_null():
    tiny = load_tiny()
    rows = two_explanations_rows(tiny.nla, tiny.model, tiny.tokenizer, torch.zeros(128), documents=4)
    found = {(row.arm, row.metric): row.value for row in rows}
    assert found["same_twice", "unchanged_rate"] == 1
    assert found["sampled", "unchanged_rate"] < 1
    assert found["two_explanations", "fve/block"] > found["two_explanations", "fve/attn"]
    acts = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    texts = tiny.nla.verbalize(acts)
    change = scaled_change(tiny.nla, TwoExplanations(texts, texts, []), acts, 3 * acts)
    torch.testing.assert_close(change.norm(dim=1), 2 * acts.norm(dim=1), rtol=1e-4, atol=0)
