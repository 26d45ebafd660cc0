import json

import pytest
import torch

from tests import families, zoo
from tl_nla.errors import InputError
from tl_nla.reports import check as module
from tl_nla.reports.check import check


def verdicts(found):
    return {row.capability: row.verdict for row in found.rows}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_is_exact_on_an_ordinary_model(dtype):
    found = check(families.bridge("llama", dtype))
    assert found
    assert set(verdicts(found).values()) == {"exact"}
    limit = 1e-5 if dtype == torch.float32 else 2e-2
    assert all(row.error is not None and row.error <= limit for row in found.rows)
    assert json.loads(found.to_json())["trusted"] is True
    assert found["heads"].detail.startswith("16 heads in 4 layers")
    assert "direct attribution" in str(found)
    with pytest.raises(InputError, match="nothing was checked under 'weights'"):
        found["weights"]


def test_layers_without_heads_are_told():
    found = check(families.bridge("lfm2"))
    assert found["heads"].verdict == "exact"
    assert "read the whole write 'blocks.0.mixer' instead" in found["heads"].detail


def test_what_cannot_be_read_is_refused_and_nothing_raises():
    found = check(families.bridge("openai_gpt"))  # its blocks normalise the sum
    assert not found
    assert found["block sums"].verdict == "refused"
    assert found["direct attribution"].verdict == "exact"  # whole blocks still add up


def test_a_read_out_that_does_more_is_found():
    model = zoo.bridge("llama")

    def cubed(module, args, output):
        output.logits = output.logits.pow(3)
        return output

    model.original_model.register_forward_hook(cubed)
    found = check(model)
    assert found["read-out"].verdict == "refused"
    assert found["direct attribution"].verdict == "refused"


def test_the_model_is_left_as_found(llama):
    before, mode = llama(zoo.tokens()), llama.training
    check(llama)
    assert torch.equal(llama(zoo.tokens()), before)
    assert llama.training == mode
    assert not zoo.hook_counts(llama)


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match="has no cfg"):
        check(zoo.hf_model("gpt2"))


def test_a_stream_that_changes_between_blocks_is_told():
    model = families.bridge("rwkv")
    found = module.check(model)
    assert found["states"].verdict == "approximate"
    assert "is not the input of the next block" in found["states"].detail
