"""Each expert's write, against plain torch and against models whose expert is taken out."""

import pytest
import torch

import tl_nla
from tests import families, zoo
from tl_nla.adapters import ReadingAdapter
from tl_nla.attribution import skip_logits
from tl_nla.errors import InputError
from tl_nla.model.hooks import tap
from tl_nla.model.reading import read

COUNT = 4
HALF = (torch.bfloat16, torch.float16)
# The layer that is looked at, by family.
PLAIN = {
    "mixtral": 1, "phimoe": 1, "qwen2_moe": 2, "qwen3_moe": 1, "olmoe": 0, "granite_moe": 3, "glm4_moe": 2,
    "deepseek_v2": 1, "deepseek_v3": 3, "gpt_oss": 0, "ernie4_5_moe": 1, "minimax_m2": 2, "laguna": 1, "qwen3_next": 3,
    "qwen3_5_moe": 0, "granite_moe_hybrid": 1, "lfm2_moe": 2, "jamba": 2,
}  # fmt: skip
NORM_BEHIND = {"flex_olmo": 1, "afmoe": 2}


def sites(layer):
    return [f"blocks.{layer}.mlp.expert.{expert}" for expert in range(COUNT)]


def taken_out(model, layer, expert):
    """Let one expert give nothing, by its own weights."""
    modules = model.blocks[layer].named_modules()
    experts = next(module for _, module in modules if type(module).__name__.endswith("Experts"))
    with torch.no_grad():
        for name, weight in experts.named_parameters():
            if name.startswith("down_proj"):
                weight[expert] = 0


@pytest.mark.parametrize(
    "family", ["mixtral", "qwen2_moe", "granite_moe", "granite_moe_hybrid", "deepseek_v3", "gpt_oss", "jamba"]
)
def test_a_write_is_what_is_missing_without_the_expert(family):
    layer, tokens = PLAIN[family], zoo.tokens(2, 9)
    model = families.bridge(family)
    whole = f"blocks.{layer}.mlp"
    reading = read(model, tokens, [whole, *sites(layer)])
    assert reading.experts(layer).fit.exact
    for expert, site in enumerate(sites(layer)):
        other = families.bridge(family)
        taken_out(other, layer, expert)
        missing = reading[whole] - read(other, tokens, [whole])[whole]
        torch.testing.assert_close(reading[site], missing, atol=2e-5, rtol=1e-4)
    assert sum(bool((reading[site] != 0).any()) for site in sites(layer)) >= 2


def test_mixtral_in_plain_torch():
    layer, tokens = 2, zoo.tokens(2, 9)
    plain = families.build("mixtral")
    entered = []
    mlp = plain.model.layers[layer].mlp
    handle = mlp.register_forward_pre_hook(lambda module, args: entered.append(args[0].flatten(0, 1)))
    with torch.no_grad():
        plain(tokens)
    handle.remove()
    (state,) = entered
    chance = (state @ mlp.gate.weight.T).softmax(-1)
    best = chance.topk(2, dim=-1)
    share = best.values / best.values.sum(-1, keepdim=True)
    reading = read(families.bridge("mixtral"), tokens, sites(layer))
    for expert, site in enumerate(sites(layer)):
        gate, up = (state @ mlp.experts.gate_up_proj[expert].T).chunk(2, dim=-1)
        given = (torch.nn.functional.silu(gate) * up) @ mlp.experts.down_proj[expert].T
        taken = (share * (best.indices == expert)).sum(-1, keepdim=True)
        torch.testing.assert_close(reading[site], (given * taken).detach(), atol=1e-5, rtol=1e-4)
    found = reading.experts(layer)
    assert torch.equal(found.index.sort(-1).values, best.indices.sort(-1).values)
    torch.testing.assert_close(found.weight.sum(-1), torch.ones(len(reading)))


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("family", sorted({**PLAIN, **NORM_BEHIND}))
def test_experts_and_the_rest_are_the_write(family, dtype):
    layer = {**PLAIN, **NORM_BEHIND}[family]
    model, tokens = families.bridge(family, dtype), zoo.tokens(2, 9)
    whole = f"blocks.{layer}.mlp"
    reading = read(model, tokens, [whole, *sites(layer)])
    found = reading.experts(layer)
    total = found.writes(range(COUNT)).sum(1) + found.rest
    write = reading.precise(whole).float()
    size = found.parts.abs().sum(1) + found.rest.abs()
    assert bool(((total - write).abs() <= 3 * torch.finfo(dtype).eps * size + 1e-4).all())
    assert all(reading[site].dtype == dtype for site in sites(layer))


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3", "gpt_oss"])
def test_half_precision_is_near_float32(family, dtype):
    layer, tokens = PLAIN[family], zoo.tokens(1, 9)
    exact = read(families.bridge(family), tokens, sites(layer)).experts(layer)
    found = read(families.bridge(family, dtype), tokens, sites(layer)).experts(layer)
    same = (exact.index.sort(-1).values == found.index.sort(-1).values).all(-1)  # elsewhere the router's choice is near
    assert int(same.sum()) >= 5
    near, far = (one.writes(range(COUNT))[same] for one in (found, exact))
    assert float((near - far).norm() / far.norm()) < 0.05


def test_many_experts_a_position_in_half_precision():
    settings = {"num_local_experts": 16, "num_experts_per_tok": 8}
    model = families.bridge("mixtral", torch.bfloat16, **settings)
    reading = read(model, zoo.tokens(4, 30), ["blocks.1.mlp.expert.15"])
    assert reading.experts(1).fit.exact
    assert reading.experts(1).parts.shape == (120, 8, zoo.D_MODEL)


def test_positions_and_padding():
    model, tokens, middle = families.bridge("qwen3_moe"), zoo.tokens(1, 7), "blocks.2.hook_resid_mid"
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), tokens], 1)
    mask = (torch.arange(10) >= 3).long()[None]
    alone = read(model, tokens, [middle, *sites(2)], [2, -1])
    beside = read(model, padded, sites(2), [2, -1], mask)
    for site in sites(2):
        torch.testing.assert_close(beside[site], alone[site], atol=1e-5, rtol=1e-4)
        assert torch.equal(alone.before(site), alone[middle])


def test_the_model_is_left_as_found():
    model, tokens = families.bridge("qwen2_moe"), zoo.tokens(1, 6)
    before = model(tokens)  # on its first run transformers puts hooks of its own on some modules
    hooks = [(len(module._forward_pre_hooks), len(module._forward_hooks)) for module in model.modules()]
    read(model, tokens, sites(1))["blocks.1.mlp.expert.0"]
    assert torch.equal(model(tokens), before)
    assert hooks == [(len(module._forward_pre_hooks), len(module._forward_hooks)) for module in model.modules()]


@pytest.mark.parametrize(
    ("family", "site", "message"),
    [
        ("mixtral", "blocks.1.mlp.expert.4", "experts 0 to 3"),
        ("mixtral", "blocks.9.mlp.expert.0", "layers 0 to 3"),
        ("qwen3_moe", "blocks.0.mlp.expert.0", "no experts .* read the whole write 'blocks.0.mlp'"),
        ("llama", "blocks.0.mlp.expert.0", "no experts .* read the whole write 'blocks.0.mlp'"),
        ("llama4", "blocks.1.mlp.expert.0", "no experts that are called with the router's choices"),
        ("jetmoe", "blocks.1.mlp.expert.0", "no experts that are called with the router's choices"),
        ("nemotron_h", "blocks.3.mlp.expert.0", "no part 'mlp'"),
    ],
)
def test_what_cannot_be_read_is_refused(family, site, message):
    with pytest.raises(InputError, match=message):
        tl_nla.read(families.bridge(family), zoo.tokens(1, 6), [site])


def test_a_sum_that_is_not_the_write_is_refused_with_its_figure():
    site = "blocks.1.mlp.expert.0"
    reading = read(families.bridge("gemma4_moe"), zoo.tokens(1, 6), [site])  # norms around the mixture and behind it
    with pytest.raises(InputError, match=r"experts of layer 1 do not add up .*off by \d.*blocks\.1\.mlp"):
        reading[site]
    model = families.bridge("mixtral")
    with tap(model, [("blocks.1.hook_mlp_out", lambda write, hook: write * 1.1)]):
        changed = read(model, zoo.tokens(1, 6), [site])
    with pytest.raises(InputError, match="do not add up"):
        changed[site]
    with pytest.raises(InputError, match="layer of this reading's experts"):
        changed.experts(2)


def test_what_takes_hooks_alone_refuses_experts():
    model, site = families.bridge("mixtral"), "blocks.1.mlp.expert.0"
    with pytest.raises(InputError, match=r"can be read, but not left out alone; leave out 'blocks\.1\.mlp'"):
        skip_logits(model, zoo.tokens(1, 6), site)
    with pytest.raises(InputError, match=r"take the whole write 'blocks\.1\.mlp'"):
        ReadingAdapter(site).hooks(model)


def test_the_layers_of_transformer_lens_itself_are_refused(get_model):
    with pytest.raises(InputError, match="no experts"):
        read(get_model("hooked", "llama"), zoo.tokens(1, 6), ["blocks.0.mlp.expert.0"])
