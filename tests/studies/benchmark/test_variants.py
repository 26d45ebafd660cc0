"""Copies of a verbalizer that are worse in a known way."""

import torch

from docs.studies.benchmark.variants import damaged, faded
from tests import zoo
from tl_nla.nla import NLA, InjectionConfig


def test_copies_lie_between_trained_and_untrained():
    model = zoo.hf_model("llama")
    nla = NLA.create(
        model, zoo.tokenizer(), 1, InjectionConfig("constant", 1.0), "w5 {injection_char} w6", "w7 {explanation} w8 w9"
    )
    with torch.no_grad():
        for weight in nla.verbalizer.model.parameters():
            weight.add_(1.0)
    name = "model.layers.0.mlp.down_proj.weight"
    start = dict(model.named_parameters())[name]

    def weight(of):
        return dict(of.verbalizer.model.named_parameters())[name]

    torch.testing.assert_close(weight(faded(nla, model, 0.0)), start + 1)
    torch.testing.assert_close(weight(faded(nla, model, 0.25)), start + 0.75)
    torch.testing.assert_close(weight(faded(nla, model, 1.0)), start)
    moved = (weight(damaged(nla, 0.5, seed=0)) - weight(nla)).detach()
    assert abs(float(moved.std() / weight(nla).detach().std()) - 0.5) < 0.1
    torch.testing.assert_close(weight(nla), start + 1)
