"""Controls: the black box goes on with a text once, whoever asks, and as the base model would by itself."""

from types import SimpleNamespace

import pytest
import torch

from tests import zoo
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
