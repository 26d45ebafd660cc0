"""Linear layers in eight bits, on the embedded model and through TransformerLens's bridge."""

import importlib.util

import pytest
import torch

import tl_nla
from tl_nla.cli.main import main
from tl_nla.errors import InputError
from tl_nla.model.heads import out_projection
from tl_nla.model.placement import Placement
from tl_nla.model.quantised import dequantised, is_quantised, scheme_of
from tl_nla.model.targets import load_target
from tl_nla.reports import layer_contributions

TEXT = "Tom found a kite painted red. The kite was"
needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def model():
    return tl_nla.load("tiny", quantization="int8")


@needs_torchao
def test_writes_of_heads_are_those_of_the_rounded_weights(model):
    tokens = model.to_tokens(TEXT)
    reading = tl_nla.read(model, tokens, ["blocks.1.attn", "blocks.1.attn.head.0"])
    plain = tl_nla.load("tiny")
    stored = dequantised(out_projection(model, 1).module.original_component.weight)
    exact = out_projection(plain, 1).module.original_component.weight
    step = exact.abs().amax(1, keepdim=True) / 127
    assert (stored - exact).abs().max() > 0
    assert bool(((stored - exact).abs() <= 0.51 * step).all())
    z = reading.sum_of_heads(1).z.flatten(1)
    torch.testing.assert_close(reading.heads(1).sum(1), z @ stored.T, atol=1e-4, rtol=1e-4)
    bias = out_projection(plain, 1).module.original_component.bias
    torch.testing.assert_close(reading.heads(1).sum(1) + bias, reading["blocks.1.attn"], atol=1e-4, rtol=1e-4)


@needs_torchao
def test_the_check_tells_what_can_be_trusted(model, capsys):
    found = tl_nla.check(model)
    assert found.quantization == scheme_of(model) == "int8"
    assert found["heads"].verdict == "exact"
    assert found["heads"].error < 1e-4
    assert found["direct attribution"].verdict == "exact"
    assert tl_nla.check(tl_nla.load("tiny")).quantization is None
    assert main(["contributions", TEXT, "--labels", "--no-skips", "--quantization", "int8"]) == 0


@needs_torchao
def test_a_report_of_it_adds_up(model):
    report = layer_contributions(model, TEXT, positions=[-1], skips=False)
    assert max(report.unaccounted_share) < 1e-3


@needs_torchao
def test_adapters_and_data_modules(model, tmp_path):
    from lightning_modules import ActivationDataModule
    from lightning_modules.data.settings import CorpusConfig

    corpus = CorpusConfig(documents=12, positions_per_document=2, heldout=0.4)
    data = ActivationDataModule("tiny", corpus=corpus, placement=Placement(quantization="int8"))
    data.setup()
    plain = ActivationDataModule("tiny", corpus=corpus)
    plain.setup()
    gap = (data.train_states.acts - plain.train_states.acts).norm() / plain.train_states.acts.norm()
    assert 1e-4 < gap < 0.1
    assert data.model_settings()["quantization"] == "int8"


def test_what_cannot_be_had_is_refused(monkeypatch):
    with pytest.raises(InputError, match="unknown quantization 'int3'"):
        Placement(quantization="int3")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs torchao: pip install 'tl-nla\[int8\]'"):
        Placement(quantization="int8")


def test_a_hooked_transformer_with_such_weights_is_refused():
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W_O = torch.nn.Parameter(torch.zeros(64, 1, dtype=torch.uint8), requires_grad=False)

    block = torch.nn.Module()
    block.attn = Attention()
    model = torch.nn.Module()
    model.blocks = torch.nn.ModuleList([block])
    assert is_quantised(block.attn.W_O)
    assert scheme_of(model) == "other"
    with pytest.raises(InputError, match=r"quantised, and heads are not read .* gives a TransformerBridge"):
        out_projection(model, 0)


@pytest.mark.parametrize(("share", "fine"), [(0.004, True), (0.05, False)])
def test_a_sum_of_heads_may_be_off_by_a_kernels_rounding_only(share, fine, monkeypatch):
    """Kernels for four bits compute with weights rounded once more: told as approximate up to 1%, refused above."""
    model = load_target("tiny").model
    tokens = model.to_tokens(TEXT)
    weight = out_projection(model, 1).module.original_component.weight
    monkeypatch.setattr("tl_nla.model.heads.is_quantised", lambda found: found is weight)
    off = weight.detach() * (1 + share)
    monkeypatch.setattr("tl_nla.model.norms.dequantised", lambda found: off if found is weight else found.detach())
    nothing = torch.zeros(weight.shape[1] + 1, weight.shape[0])
    monkeypatch.setattr("tl_nla.model.heads._applied", lambda layer, width, heads: nothing)
    reading = tl_nla.read(model, tokens, ["blocks.1.attn.head.0"])
    if fine:
        assert not reading.sum_of_heads(1).fit.exact
        assert reading.sum_of_heads(1).fit.error < 0.01
    else:
        with pytest.raises(InputError, match="do not add up"):
            reading.sum_of_heads(1)


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", ["int8", "nf4"])
def test_on_a_gpu(scheme):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    pytest.importorskip({"int8": "torchao", "nf4": "bitsandbytes"}[scheme])
    model = tl_nla.load("tiny", dtype="bfloat16", device="cuda", quantization=scheme)
    found = tl_nla.check(model)
    assert found.quantization == scheme
    assert found["heads"].verdict in ("exact", "approximate")
    assert found["heads"].error < 0.01
