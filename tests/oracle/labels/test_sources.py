import pytest
import torch

from tests import families, zoo
from tl_nla.errors import InputError
from tl_nla.model.hooks import tap
from tl_nla.model.reading import read
from tl_nla.oracle.labels import LOCAL, head_sources


def reference(model, tokens, layer, head):
    """Shares of every source, one position at a time, from full per-source writes through the attention itself."""
    kept = {}

    def keep(name):
        def function(activation, hook):
            kept[name] = activation.detach()

        return function

    names = ["attn.hook_pattern", "attn.hook_v", "attn.hook_z"]
    with torch.no_grad(), tap(model, [(f"blocks.{layer}.{name}", keep(name)) for name in names]):
        model(tokens)
    weight = model.blocks[layer].attn.W_O[head].detach()
    pattern, value = kept["attn.hook_pattern"][:, head], kept["attn.hook_v"]
    group = model.cfg.n_heads // value.shape[2]
    write = read(model, tokens, [f"blocks.{layer}.attn.head.{head}"])[f"blocks.{layer}.attn.head.{head}"]
    plain = kept["attn.hook_z"][:, :, head].flatten(0, 1) @ weight
    gain = (write / plain).reshape(*tokens.shape, -1)
    shares = torch.zeros(*tokens.shape, tokens.shape[1])
    for row in range(tokens.shape[0]):
        for query in range(tokens.shape[1]):
            for source in range(query + 1):
                vector = value[row, source, head // group] @ weight * gain[row, query]
                shares[row, query, source] = pattern[row, query, source] * vector.norm()
    return shares / shares.sum(-1, keepdim=True), write.norm(dim=-1).reshape(tokens.shape)


def check_against_reference(model, tokens, layer, head, found):
    shares, norms = reference(model, tokens, layer, head)
    torch.testing.assert_close(found.norm[layer, head], norms, rtol=1e-3, atol=1e-5)
    for row in range(tokens.shape[0]):
        for query in range(tokens.shape[1]):
            share = shares[row, query]
            assert found.itself[layer, head, row, query] == pytest.approx(float(share[query]), abs=1e-3)
            assert found.sink[layer, head, row, query] == pytest.approx(float(share[0]) if query else 0.0, abs=1e-3)
            distant = [(float(share[s]), s) for s in range(1, query - LOCAL)]
            local = [(float(share[s]), s) for s in range(max(1, query - LOCAL), query)]
            for side, ids, weights, total in (
                (distant, found.distant, found.distant_weight, found.distant_total),
                (local, found.local, found.local_weight, found.local_total),
            ):
                assert total[layer, head, row, query] == pytest.approx(sum(w for w, _ in side), abs=1e-3)
                best = [entry for entry in sorted(side, reverse=True)[:3] if entry[0] > 0]  # sliding windows give 0
                got = weights[layer, head, row, query].tolist()
                assert got == pytest.approx([w for w, _ in best] + [0.0] * (3 - len(best)), abs=1e-3)
                columns = ids[layer, head, row, query].tolist()
                assert [c == -1 for c in columns] == [i >= len(best) for i in range(3)]
                for column, weight in zip(columns, got, strict=True):
                    assert column == -1 or weight == pytest.approx(float(share[column]), abs=1e-3)


def test_equals_slow_reference_in_every_family(bridge, family):
    tokens = zoo.tokens(1, 20)
    found = head_sources(bridge, tokens)
    for layer, head in ((0, 0), (1, 1), (2, 3)):
        check_against_reference(bridge, tokens, layer, head, found)


def test_equals_slow_reference_on_both_model_classes(model):
    tokens = zoo.tokens(2, 19)
    check_against_reference(model, tokens, 1, 2, head_sources(model, tokens))


def test_shares_add_up_and_head_norms_are_those_of_the_writes(llama):
    tokens = zoo.tokens(2, 24)
    found = head_sources(llama, tokens)
    total = found.sink + found.itself + found.distant_total + found.local_total
    torch.testing.assert_close(total, torch.ones_like(total))
    reading = read(llama, tokens, ["blocks.1.attn.head.3"])
    torch.testing.assert_close(found.norm[1, 3].flatten(), reading["blocks.1.attn.head.3"].norm(dim=-1))
    before = reading.before("blocks.1.attn.head.3").norm(dim=-1)
    torch.testing.assert_close(found.state_norm[1].flatten(), before)


def test_nothing_after_the_position_enters(llama):
    tokens = zoo.tokens(1, 24)
    changed = tokens.clone()
    changed[:, 15:] = zoo.tokens(1, 9, seed=5)
    one, two = head_sources(llama, tokens), head_sources(llama, changed)
    for name in ("distant", "distant_weight", "local", "local_weight"):
        torch.testing.assert_close(getattr(one, name)[..., :15, :], getattr(two, name)[..., :15, :])
    assert not torch.equal(one.local_weight[..., 15:, :], two.local_weight[..., 15:, :])


def test_together_pools_the_heads_before_normalising(llama):
    tokens = zoo.tokens(1, 20)
    heads, pooled = head_sources(llama, tokens), head_sources(llama, tokens, together=True)
    assert pooled.sink.shape == (3, 1, 1, 20)
    total = pooled.sink + pooled.itself + pooled.distant_total + pooled.local_total
    torch.testing.assert_close(total, torch.ones_like(total))
    low, high = heads.itself.amin(1), heads.itself.amax(1)
    assert ((pooled.itself[:, 0] >= low - 1e-6) & (pooled.itself[:, 0] <= high + 1e-6)).all()


def test_left_padding_moves_the_sink(llama):
    tokens = zoo.tokens(1, 20)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), tokens], 1)
    mask = torch.ones_like(padded)
    mask[:, :3] = 0
    plain, shifted = head_sources(llama, tokens), head_sources(llama, padded, mask)
    torch.testing.assert_close(shifted.sink[..., 3:], plain.sink, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(shifted.local_weight[..., 3:, :], plain.local_weight, rtol=1e-3, atol=1e-4)


def test_chosen_layers_and_refusals(llama):
    tokens = zoo.tokens(1, 8)
    whole, part = head_sources(llama, tokens), head_sources(llama, tokens, layers=[1])
    assert part.layers == (1,)
    torch.testing.assert_close(part.norm[0], whole.norm[1])
    with pytest.raises(InputError, match="0 to 2"):
        head_sources(llama, tokens, layers=[3])
    with pytest.raises(InputError, match="top_k is 0"):
        head_sources(llama, tokens, top_k=0)


@pytest.mark.parametrize(
    ("family", "layers", "reason"),
    [
        ("gemma4", [2, 3], "keys and values of an earlier layer .num_kv_shared_layers is 2"),
        ("gemma4_moe", [1, 3], "takes its keys for values .attention_k_eq_v is on"),
    ],
)
def test_a_layer_without_values_is_refused_by_its_reason(family, layers, reason):
    model, tokens = families.bridge(family), zoo.tokens(1, 8)
    for layer in range(4):
        if layer not in layers:
            assert head_sources(model, tokens, layers=[layer]).layers == (layer,)
            continue
        with pytest.raises(InputError, match=f"layer {layer} has no values of its own: .*{reason}.*can still be read"):
            head_sources(model, tokens, layers=[layer])
        head = f"blocks.{layer}.attn.head.0"
        assert read(model, tokens, [head], [-1])[head].norm() > 0
