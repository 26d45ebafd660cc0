"""Turns on one device: what moves, when, and that everything comes back."""

import pytest
import torch
from torch import nn

import tl_nla
from tl_nla.errors import InputError
from tl_nla.model.offload import Turns


class Moving:
    """Stands for a device that this machine lacks: moves to it are noted, tensors stay."""

    def __init__(self, monkeypatch, names):
        self.log, self.names, true = [], names, nn.Module.to

        def to(module, device, *more, **settings):
            if module in self.names:
                self.log.append((self.names[module], str(device)))
                return module
            return true(module, device, *more, **settings)

        monkeypatch.setattr(nn.Module, "to", to)

    def take(self):
        log, self.log = self.log, []
        return log


@pytest.fixture
def tiny():
    return tl_nla.load_tiny()


def test_verbalizer_and_reconstructor_take_turns(tiny, monkeypatch):
    nla, acts = tiny.nla, torch.randn(2, tiny.nla.d_model, generator=torch.Generator().manual_seed(0))
    texts = nla.verbalize(acts, max_new_tokens=4)
    vectors = nla.reconstruct(texts)
    moves = Moving(monkeypatch, {nla.verbalizer: "AV", nla.reconstructor: "AR"})
    nla.turns = Turns("cuda")
    try:
        assert nla.verbalize(acts, max_new_tokens=4) == texts
        assert moves.take() == [("AV", "cuda"), ("AV", "cpu")]
        assert torch.equal(nla.reconstruct(texts), vectors)
        assert moves.take() == [("AR", "cuda"), ("AR", "cpu")]
        with nla.turns.of(nla.verbalizer):  # a loop around its own turns
            nla.verbalize(acts, max_new_tokens=1)
            nla.verbalize(acts, max_new_tokens=1)
            with pytest.raises(InputError, match="it is the turn of Verbalizer"):
                nla.reconstruct(texts)
        assert moves.take() == [("AV", "cuda"), ("AV", "cpu")]
    finally:
        nla.turns = None


def test_the_target_runs_while_both_wait(tiny, monkeypatch):
    from tl_nla.adapters import VerbalizerAdapter, attach

    nla, model, order = tiny.nla, tiny.model, []
    moves = Moving(monkeypatch, {nla.verbalizer: "AV", nla.reconstructor: "AR"})
    moves.log = order
    nla.turns = Turns("cuda")
    try:
        adapter = VerbalizerAdapter(nla, nla.site, positions=[-1])
        hook = model.blocks[0].register_forward_hook(lambda *_: order.append(("target", "runs")))
        with attach(model, adapter), torch.no_grad():
            model(torch.arange(10, 20)[None])
        adapter.results(max_new_tokens=2)
        hook.remove()
    finally:
        nla.turns = None
    assert order == [("target", "runs"), ("AV", "cuda"), ("AV", "cpu"), ("AR", "cuda"), ("AR", "cpu")]


def test_a_part_comes_back_from_an_error(monkeypatch):
    module = nn.Linear(2, 2)
    moves = Moving(monkeypatch, {module: "it"})
    turns = Turns("cuda")
    with pytest.raises(RuntimeError, match="out of memory"), turns.of(module):
        raise RuntimeError("out of memory")
    assert moves.take() == [("it", "cuda"), ("it", "cpu")]
    with turns.of(module):
        pass


def test_offload_needs_another_device():
    from tl_nla.plugins import part

    for load in (
        lambda: tl_nla.NLA.from_pretrained(part("tiny", "av"), part("tiny", "ar"), offload=True),
        lambda: tl_nla.DiffOracle.from_pretrained(part("tiny", "oracle"), offload=True),
    ):
        with pytest.raises(InputError, match="offload moves parts between 'cpu' and another device"):
            load()


def test_a_pair_is_loaded_as_asked():
    from tl_nla.plugins import part

    pair = tl_nla.NLA.from_pretrained(part("tiny", "av"), part("tiny", "ar"), dtype="bfloat16", device="cpu")
    assert {weight.dtype for weight in pair.verbalizer.model.parameters()} == {torch.bfloat16}
    with pytest.raises(InputError, match="device is 'nowhere'"):
        tl_nla.NLA.from_pretrained(part("tiny", "av"), part("tiny", "ar"), device="nowhere")


@pytest.mark.gpu
def test_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    from tl_nla.plugins import part

    folders = part("tiny", "av"), part("tiny", "ar")
    pair = tl_nla.NLA.from_pretrained(*folders, device="cuda", offload=True)
    acts = torch.randn(2, pair.d_model, generator=torch.Generator().manual_seed(0))
    texts = pair.verbalize(acts, max_new_tokens=8)
    assert texts == tl_nla.NLA.from_pretrained(*folders, device="cuda").verbalize(acts, max_new_tokens=8)
    assert pair.reconstruct(texts).shape == acts.shape
    assert {weight.device.type for weight in pair.parameters()} == {"cpu"}
