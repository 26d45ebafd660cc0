"""Copies of a position beside the clean tokens, against one run for each component and position."""

import pytest
import torch
from transformer_lens.model_bridge.generalized_components import BlockBridge

from tests import families
from tests.attribution import reference
from tl_nla.attribution.beside import Copy, NotBesideError, run_beside
from tl_nla.attribution.beside_block import Beside
from tl_nla.attribution.capture import capture, state_of, watched
from tl_nla.attribution.components import all_components
from tl_nla.attribution.exactness import leave_out
from tl_nla.attribution.replay import Start, start_of
from tl_nla.attribution.skips import skip_effects
from tl_nla.errors import InputError
from tl_nla.model.rounding import same_state

KINDS = ("block", "attn", "mlp", "head")
WORKS = ["gpt2", "llama", "gemma2", "gemma3", "qwen2", "qwen3", "mistral", "falcon", "bloom", "opt", "phi", "neox",
         "gpt_oss", "granite"]  # fmt: skip
TOKENS = torch.tensor([[3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7, 9]])


def copies_of(model, clean, positions):
    starts = [start_of(model, clean, part) for part in all_components(model, KINDS)]
    return starts, [copy for position in positions for start in starts for copy in Copy.of(clean, start, [position])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", WORKS)
def test_copies_are_the_runs_of_each_alone(family, dtype):
    model = families.bridge(family, dtype)
    clean, few = capture(model, TOKENS), capture(model, TOKENS, columns=[4, 11])
    starts, copies = copies_of(model, clean, [4, 11])
    of_few = [copy for place in (0, 1) for part in all_components(model, KINDS)
              for copy in Copy.of(few, start_of(model, few, part), [place])]  # fmt: skip
    ways = [run_beside(clean, copies), run_beside(clean, copies, cached=False), run_beside(few, of_few)]
    for row, position in enumerate((4, 11)):
        slow = leave_out(model, clean, starts, position)[:, :, position]
        for found in ways:
            assert same_state(found.unflatten(0, (2, len(starts)))[row], slow, 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_copies_in_several_rows_are_the_runs_of_each_alone(family, dtype):
    model, places = families.bridge(family, dtype), list(range(1, 12))
    clean = capture(model, TOKENS)
    starts, copies = copies_of(model, clean, places)
    found = run_beside(clean, copies)
    assert clean.rows_of_copies
    assert len(copies) > 64
    assert len(copies) % 16
    for row, position in enumerate(places):
        slow = leave_out(model, clean, starts, position)[:, :, position]
        assert same_state(found.unflatten(0, (len(places), len(starts)))[row], slow, 2.0)


def test_a_run_kept_at_some_columns_is_the_whole_run_there():
    model = families.bridge("llama")
    whole, few = capture(model, TOKENS), capture(model, TOKENS, columns=[4, 11])
    cut = whole.only([4, 11])
    assert few.places == cut.places == (4, 11)
    for name, value in few.kept.items():
        torch.testing.assert_close(value, cut.kept[name])
    for one, other in zip((*few.inputs, few.logits), (*cut.inputs, cut.logits), strict=True):
        torch.testing.assert_close(one, other)
    held = {value.data_ptr(): value.numel() for value in (*few.kept.values(), *few.inputs)}
    assert 4 * sum(held.values()) < sum(value.numel() for value in (*whole.kept.values(), *whole.inputs))
    with pytest.raises(InputError, match="at the columns"):
        few.only([4])


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_rows_of_a_padded_batch(family):
    model = families.bridge(family)
    tokens = torch.cat([TOKENS, TOKENS.flip(1)])
    mask = torch.ones_like(tokens)
    mask[1, :5] = 0
    clean = capture(model, tokens, mask)
    starts, copies = copies_of(model, clean, [11])
    found = run_beside(clean, copies)
    assert same_state(found, leave_out(model, clean, starts, 11)[:, :, 11], 2.0)


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1", "lfm2"])
def test_what_mixes_positions_otherwise_is_refused(family):
    model = families.bridge(family)
    clean = capture(model, TOKENS)
    with pytest.raises(NotBesideError):
        run_beside(clean, Copy.of(clean, Start(0, clean.inputs[0]), [11]))


@pytest.mark.parametrize("cached", [True, False])
def test_copies_that_see_each_other_are_found(monkeypatch, cached):
    model = families.bridge("llama")
    clean = capture(model, TOKENS)
    _, copies = copies_of(model, clean, [11])
    hidden = Beside._masked

    def leaky(self, mask):
        made = hidden(self, mask)
        made[..., made.shape[-2] - len(self.places) :, self.length :] = 0
        return made

    monkeypatch.setattr(Beside, "_masked", leaky)
    with pytest.raises(NotBesideError, match="do not come out as in the clean run"):
        run_beside(clean, copies, cached)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("shift", [-1, 1])
def test_copies_at_a_wrong_place_are_found(monkeypatch, shift, cached):
    model = families.bridge("llama")
    clean = capture(model, TOKENS)
    _, copies = copies_of(model, clean, [6])
    right = Beside._index

    def wrong(self, device):
        index = right(self, device).clone()
        index[self.length :] += shift
        return index

    monkeypatch.setattr(Beside, "_index", wrong)
    with pytest.raises(NotBesideError):
        run_beside(clean, copies, cached)


def test_effects_are_those_of_the_ordinary_way(monkeypatch):
    model = families.bridge("llama")
    effects = skip_effects(model, TOKENS, all_components(model, KINDS), positions=[11])
    monkeypatch.setattr("tl_nla.attribution.left_out.may_be_beside", lambda model, clean, cached: False)
    slow = skip_effects(model, TOKENS, all_components(model, KINDS), positions=[11])
    assert torch.allclose(effects.kl, slow.kl, atol=1e-5, equal_nan=True)
    assert torch.equal(effects.skipped_top, slow.skipped_top)
    assert torch.equal(effects.flip, slow.flip)


def tokens_through_blocks(model, monkeypatch):
    """Tokens that the blocks are given by one measurement of skips, copies included."""
    given, forward = [], BlockBridge.forward

    def counted(block, *args, **kwargs):
        given.append(next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)).shape[:2])
        return forward(block, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(BlockBridge, "forward", counted)
        skip_effects(model, TOKENS, [f"blocks.{layer}.attn" for layer in range(2)], positions=[-1])
    return sum(shape.numel() for shape in given)


def test_heads_read_by_transformer_lens_make_no_report_dearer(monkeypatch):
    """transformers leaves hooks on every block once ``run_with_cache`` asked it for attention patterns."""
    model = families.bridge("llama")
    skip_effects(model, TOKENS, ["blocks.0.attn"], positions=[-1])
    before = tokens_through_blocks(model, monkeypatch)
    model.set_use_attn_result(True)
    model.run_with_cache(TOKENS)
    assert tokens_through_blocks(model, monkeypatch) == before
    assert model.cfg.use_attn_result
    assert model.blocks[0].attn.config.use_attn_result
    model.set_use_attn_result(False)
    assert tokens_through_blocks(model, monkeypatch) == before
    assert not model.cfg.use_attn_result
    mine = model.blocks[0].register_forward_hook(lambda block, args, output: None)
    assert watched(state_of(model))
    mine.remove()
    assert not watched(state_of(model))


def test_hooks_of_the_users_take_the_ordinary_way():
    """A hook that counts positions from the end would meet a copy there."""
    model = families.bridge("llama")
    parts = all_components(model, ("mlp",))

    def damp(value, hook):
        value = value.clone()
        value[:, -1] *= 0.5
        return value

    model.add_hook("blocks.1.hook_resid_pre", damp)
    try:
        found = skip_effects(model, TOKENS, parts, positions=[11]).kl[..., 11]
        with torch.no_grad():
            clean = model(TOKENS)[:, 11].log_softmax(-1)
        for part, kl in zip(parts, found, strict=True):
            left = reference.leave_out(model, TOKENS, part, 11)[:, 11].log_softmax(-1)
            torch.testing.assert_close(kl, (clean.exp() * (clean - left)).sum(-1), atol=1e-5, rtol=1e-3)
    finally:
        model.reset_hooks()
