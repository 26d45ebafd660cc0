import pytest
import torch

from tests import zoo
from tests.nla import checkpoints
from tests.nla.checkpoints import AR_TEMPLATE, byte_tokenizer
from tl_nla.errors import InputError
from tl_nla.model.cut import cut_backbone
from tl_nla.model.families import decoder_layers, layers_name, text_backbone
from tl_nla.nla import Reconstructor

TOKENIZER = byte_tokenizer()
TEXTS = ["short", "", "a rather longer explanation of nothing", "x."]


def block_output(model, layer, ids):
    kept = []
    handle = decoder_layers(model)[layer].register_forward_hook(
        lambda _m, _a, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        out = model(ids, output_hidden_states=True, use_cache=False)
    handle.remove()
    return kept[0], out.hidden_states


@pytest.mark.parametrize("layer", range(zoo.N_LAYERS))
def test_layer_k_is_the_output_of_block_k(family, layer):
    """hidden_states[K + 1], except for the last block, where hidden_states is already behind the final norm."""
    model, ids = checkpoints.source_model(family), zoo.tokens(2, 12)
    expected, states = block_output(model, layer, ids)
    with torch.no_grad():
        ours = cut_backbone(model, layer + 1)(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    if layer + 1 < zoo.N_LAYERS:
        torch.testing.assert_close(ours, states[layer + 1], atol=1e-5, rtol=1e-5)
    else:
        assert not torch.allclose(ours, states[layer + 1], atol=1e-2)


def test_the_model_is_left_as_it_is(family):
    model, ids = checkpoints.source_model(family), zoo.tokens()
    model.requires_grad_(False)
    with torch.no_grad():
        before = model(ids).logits
    config = model.config.to_dict()
    seen = []
    decoder_layers(model)[0].register_forward_hook(lambda *_: seen.append(1))
    backbone = cut_backbone(model, 2)
    with torch.no_grad():
        backbone(input_ids=ids, use_cache=False)
        assert not seen  # the user's hooks are not copied along
        for parameter in backbone.parameters():
            parameter.zero_()
        assert torch.equal(model(ids).logits, before)
    assert model.config.to_dict() == config
    assert len(decoder_layers(model)) == zoo.N_LAYERS
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_configuration_says_what_is_left(family):
    backbone = cut_backbone(checkpoints.source_model(family), 2)
    assert backbone.config.num_hidden_layers == 2
    assert len(getattr(backbone.config, "layer_types", None) or [0, 0]) == 2
    assert len(getattr(backbone, layers_name(backbone))) == 2


@pytest.mark.parametrize("blocks", [0, 4, -1])
def test_layer_out_of_range(blocks):
    with pytest.raises(InputError, match="layers 0 to 2"):
        cut_backbone(checkpoints.source_model("llama"), blocks)


def test_models_without_known_blocks():
    with pytest.raises(InputError, match="keeps its blocks under none of"):
        text_backbone(torch.nn.Linear(2, 2))


@pytest.fixture(scope="module")
def reconstructor():
    made = Reconstructor(cut_backbone(checkpoints.source_model("gemma3"), 2), TOKENIZER, AR_TEMPLATE)
    made.head.weight.data = checkpoints.head_weight()
    return made


def test_vector_is_read_at_the_last_real_token(reconstructor):
    together = reconstructor.reconstruct(TEXTS)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([TOKENIZER.encode(AR_TEMPLATE.replace("{explanation}", text))])
        with torch.no_grad():
            hidden = reconstructor.backbone(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
        torch.testing.assert_close(together[row], hidden @ checkpoints.head_weight().T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_change_nothing(reconstructor, batch_size):
    whole, parts = reconstructor.reconstruct(TEXTS), reconstructor.reconstruct(TEXTS, batch_size)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(reconstructor):
    ids, mask = reconstructor.encode(TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(reconstructor(ids, mask), reconstructor(ids.masked_fill(~mask, 77), mask.long()))


def test_reading_by_length_is_reading_one_by_one_with_gradient(reconstructor):
    texts = ["a", "one two three four five six seven eight nine ten eleven twelve", "b c", "x y z " * 6]
    vectors = reconstructor.read(texts)
    assert vectors.requires_grad
    singles = torch.cat([reconstructor(*reconstructor.encode([text])) for text in texts])
    torch.testing.assert_close(vectors, singles, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mask", [[0, 1, 1], [1, 0, 1], [0, 0, 0]])
def test_left_padding_is_refused(reconstructor, mask):
    with pytest.raises(InputError, match="right-padded"):
        reconstructor(torch.tensor([[5, 6, 7]]), torch.tensor([mask]))


def test_head_starts_as_identity_in_float32_whatever_the_backbone():
    backbone = cut_backbone(checkpoints.source_model("llama").bfloat16(), 2)
    made = Reconstructor(backbone, TOKENIZER, AR_TEMPLATE)
    assert made.head.weight.dtype == torch.float32
    assert torch.equal(made.head.weight, torch.eye(zoo.D_MODEL))
    assert made.head.bias is None
    ids, mask = made.encode(TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(ids, mask).dtype == torch.float32


def test_gradients_reach_backbone_and_head(reconstructor):
    reconstructor(*reconstructor.encode(TEXTS)).sum().backward()
    assert reconstructor.head.weight.grad.any()
    grads = {name: parameter.grad for name, parameter in reconstructor.backbone.named_parameters()}
    assert all(grad is not None for grad in grads.values()), [name for name, grad in grads.items() if grad is None]


def test_empty_list(reconstructor):
    with pytest.raises(InputError, match="at least one text"):
        reconstructor.reconstruct([])


def test_text_longer_than_the_context(reconstructor):
    with pytest.raises(InputError, match="the context 256"):
        reconstructor.reconstruct(["x" * 300])


def test_prompt_that_lost_its_suffix(reconstructor):
    wrong = Reconstructor(reconstructor.backbone, TOKENIZER, AR_TEMPLATE, suffix=(5, 6, 7))
    with pytest.raises(InputError, match="does not end in the template's suffix"):
        wrong.encode(["text"])


def test_modes_are_as_before(reconstructor):
    reconstructor.train()
    reconstructor.backbone.eval()
    modes = [part.training for part in reconstructor.modules()]
    reconstructor.reconstruct(TEXTS)
    assert [part.training for part in reconstructor.modules()] == modes
