"""Controls: the black box goes on with a text once, whoever asks, and as the base model would by itself."""

from types import SimpleNamespace

import pytest
import torch
from transformer_lens.tools.analysis import JacobianLens

from tests import zoo
from tl_nla.benchmark.verbalizers.controls.lenses import jacobian_lens_arm
from tl_nla.benchmark.verbalizers.controls.text_only import text_only_arms
from tl_nla.benchmark.verbalizers.readers.overlap import Rarity
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.model import targets

PAST = [[1, 5, 6, 7], [1, 8, 9], [1, 5, 6, 7]]


@torch.no_grad()
def greedy(model, ids, many):
    """Tokens one by one, without cache or padding."""
    for _ in range(many):
        ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[-many:]


def test_the_black_box_goes_on_with_each_text_once(monkeypatch):
    model, tokenizer, asked = zoo.hf_model("llama").eval(), zoo.tokenizer(), []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda ids, **how: asked.append(len(ids)) or generate(ids, **how))
    arms = text_only_arms(SimpleNamespace(tokenizer=tokenizer, model=None), model, Rarity([]))
    [arm] = [one for one in arms if one.name == "black_box_continuation"]
    rows = Rows("test", torch.zeros(3, 4), PAST, torch.arange(3))
    found = arm.say(rows, [3, 2, 4])
    assert asked == [2]
    wanted = [greedy(model, past, many) for past, many in zip(PAST, (3, 2, 4), strict=True)]
    assert found == [tokenizer.decode(ids, skip_special_tokens=True) for ids in wanted]
    assert arm.say(rows, [3, 2, 4]) == found
    assert asked == [2]
    arm.say(rows, [3, 2, 9])
    assert asked == [2, 1]


@pytest.mark.parametrize(
    ("name", "units", "wanted"),
    [
        ("smollm2", ["avx512_bf16"], "bfloat16"),
        ("smollm2", ["amx_bf16"], "bfloat16"),
        ("tiny", ["amx_bf16"], "float32"),
    ],
)
def test_named_models_are_read_in_bfloat16_where_that_is_faster(name, units, wanted, monkeypatch):
    monkeypatch.setattr(targets, "processor_units", lambda: units)
    assert targets.reading_precision(name) == wanted


def test_the_jacobian_lens_of_a_half_precision_model_is_that_of_float32():
    low = zoo.hf_model("llama").to(torch.bfloat16)
    models = [zoo.bridge(low).eval(), zoo.bridge(zoo.hf_model("llama").to(torch.bfloat16).float()).eval()]
    rows = Rows("test", torch.randn(6, 32, generator=torch.Generator().manual_seed(0)), PAST * 2, torch.arange(6))
    texts, seen = ["the cat sees the dog and runs to the house"] * 2, []
    fit = JacobianLens.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JacobianLens, "fit", lambda *a, **how: seen.append(fit(*a, **how)) or seen[-1])
        for model in models:  # a warning of reduced precision would be an error here
            target = targets.Target("made up", model, zoo.tokenizer())
            said = jacobian_lens_arm(target, 0, texts).say(rows, [3] * 6)
            assert len(said) == 6
    torch.testing.assert_close(seen[0].jacobians[0], seen[1].jacobians[0], rtol=0, atol=0)
    assert next(models[0].parameters()).dtype == torch.bfloat16
