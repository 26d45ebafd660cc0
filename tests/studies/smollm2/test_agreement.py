"""Changed weights: what rounding may have hidden stays the same model, and shuffled weights are another one."""

import pytest

from docs.studies.smollm2.agreement import BLOCK, LEVELS, as_markdown, half_a_step, shuffled
from tests import zoo
from tl_nla.data.progress import listening
from tl_nla.errors import InputError
from tl_nla.smollm2 import fingerprint


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(fingerprint, "TOKENS", (1, 5, 9, 33, 17, 60, 41, 8))
    return fingerprint.fingerprint(zoo.bridge(zoo.hf_model("llama")))


def test_noise_within_half_a_step_of_four_bits_is_accepted(known):
    before, model = zoo.hf_model("llama"), zoo.hf_model("llama")
    half_a_step(model)
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        moved = (new - old).abs().view(-1, BLOCK if old.ndim == 2 else 1)
        rows = old.view(moved.shape)
        step = (rows.amax(1) - rows.amin(1)) / LEVELS
        if "embed" in name:
            step = rows.abs().amax(1) / 127
        assert (moved.amax(1) <= step * 0.501).all(), name  # norms have no step and stay as they are
        assert old.ndim < 2 or moved.mean() > 0.2 * step.mean()
    heard = []
    with listening(lambda what, *_: heard.append(what)):
        found = fingerprint.check_fingerprint(zoo.bridge(model), known, "it")
        assert fingerprint.LEAST < found < 0.995
        fingerprint.check_fingerprint(zoo.bridge(before), known, "the same")
    assert heard == [f"it was made for weights whose states agree with this model's by {found:.2f} (a cosine)"]


def test_another_model_of_the_same_shape_is_refused(known):
    model = zoo.hf_model("llama")
    shuffled(model)
    with pytest.raises(InputError, match="agree with it by") as refused:
        fingerprint.check_fingerprint(zoo.bridge(model), known, "it")
    other = {"accepted": False, "says": str(refused.value)}
    rows = [{"case": "noise", "oracle": {"accepted": True, "agreement": 0.91}, "nla": other,
             "scores": [{"kind": "mlp", "fve": 0.5, "low": 0.4, "high": 0.6}]}]  # fmt: skip
    table = as_markdown(rows)
    assert "| noise | 0.910 | refused, " in table
    assert "| 0.50 [0.40, 0.60] |" in table
