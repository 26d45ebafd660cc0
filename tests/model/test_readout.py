import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tl_nla.model.readout import config_value, soft_caps, solve_readout

WIDTH, VOCAB = 24, 40
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Bag:
    def __init__(self, **values):
        self.__dict__ |= values


class Model(nn.Module):
    """A model from its last state on: norm, unembedding with bias, and what the configuration tells of the logits."""

    def __init__(self, dtype=torch.float32, config=None, cap=None, bias=True, vocab=VOCAB):
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.ln_final = nn.RMSNorm(WIDTH, eps=1e-5)
        self.unembed = nn.Linear(WIDTH, vocab, bias=bias)
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(torch.randn(value.shape, generator=draw))
        self.cfg = Bag(output_logits_soft_cap=cap)
        self.original_model = Bag(config=Bag(**(config or {})))
        self.to(dtype)

    @property
    def W_U(self):
        return self.unembed.weight.T

    def forward(self, last, multiplier=1.0, cap=None):
        logits = self.unembed(self.ln_final(last)) * multiplier
        return logits if cap is None else cap * torch.tanh(logits / cap)


def last_states(dtype, seed=0):
    return torch.randn(2, 9, WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=40)
@given(
    st.sampled_from(DTYPES), st.sampled_from([1.0, 0.4, 0.0625, 2.3]), st.sampled_from([None, 5.0, 30.0]),
    st.sampled_from(["logit_scale", "logits_scaling", "lm_head_multiplier", "untold"]), st.integers(0, 99),
)  # fmt: skip
def test_multiplier_and_cap_are_found(dtype, multiplier, cap, name, seed):
    told = {name: 1 / multiplier if name == "logits_scaling" else multiplier, "final_logit_softcapping": cap}
    model, last = Model(dtype, told), last_states(dtype, seed)
    logits = model(last, multiplier, cap).detach()
    found = solve_readout(model, last, logits)
    assert found.fit.exact
    assert found.norm.fit.exact
    reach = 1.0 if cap is None else float(logits.abs().max()) / cap
    if reach > 0.5 or cap is None:  # a cap far above all logits cannot be seen in them
        assert found.cap == cap
        assert abs(found.multiplier / multiplier - 1) < (1e-4 if name != "untold" else 0.02)
    error = (found.logits(last).float() - logits.float()).abs().max()
    assert error <= 4 * torch.finfo(dtype).eps * logits.float().abs().max() + 1e-5
    torch.testing.assert_close(
        found.rows(torch.tensor([3, 7])), model.unembed.weight.detach()[[3, 7]].float() * found.multiplier
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("plant", ["shift", "squash", "one token", "another layer"])
def test_what_else_happens_to_the_logits_is_no_exact_fit(dtype, plant):
    model, last = Model(dtype), last_states(dtype)
    logits = model(last).detach().float()
    draw = torch.Generator().manual_seed(3)
    changed = {
        "shift": logits + torch.randn(VOCAB, generator=draw), "squash": 4 * torch.tanh(logits / 4),
        "one token": logits + 3.0 * (torch.arange(VOCAB) == 5), "another layer": logits + 0.2 * logits.roll(1, -1),
    }[plant].to(dtype)  # fmt: skip
    assert not solve_readout(model, last, changed).fit.exact


def test_logits_of_another_width_are_no_fit():
    model, last = Model(), last_states(torch.float32)
    assert not solve_readout(model, last, torch.zeros(2, 9, VOCAB - 1)).fit.exact


@pytest.mark.parametrize("vocab", [VOCAB, 180_000])  # of the large one, pieces are taken
def test_the_mean_row_is_the_weighted_sum_of_all_rows(vocab):
    model, last = Model(vocab=vocab), last_states(torch.float32)
    found = solve_readout(model, last, model(last, 0.4).detach())
    weights = torch.rand(1, 2, vocab, generator=torch.Generator().manual_seed(0)) / vocab
    expected = weights.double() @ found.rows(torch.arange(vocab)).double()
    torch.testing.assert_close(found.mean_row(weights).double(), expected, atol=1e-5, rtol=1e-4)


def test_the_text_model_of_several_tells_its_own_configuration():
    model = Model(config={"text_config": Bag(final_logit_softcapping=7.0), "logit_scale": None}, cap=-1.0)
    assert config_value(model, "final_logit_softcapping") == 7.0
    assert config_value(model, "logit_scale") is None
    assert soft_caps(model) == [None, 7.0]
    assert soft_caps(Model(cap=3.0)) == [None, 3.0]
