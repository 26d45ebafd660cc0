"""Steering changes what was chosen, and nothing else."""

import pytest
import torch

import tl_nla
from tests import families, zoo
from tl_nla.adapters import SteeringAdapter, VectorAdapter, attach
from tl_nla.errors import InputError
from tl_nla.metrics.functional import normalise
from tl_nla.steering import SteeringVector, append, change_states, expect, substitute

SITE = "blocks.2.hook_resid_post"
STORY = "Tom found a kite painted red. Tom felt happy. Lily came to the farm too. The kite was"


@pytest.fixture(scope="module")
def tiny():
    return tl_nla.load_tiny()


@pytest.fixture(scope="module")
def tokens(tiny):
    return tiny.model.to_tokens(STORY)


class Words:
    """A pair whose explanation is the sign of the first number, read back as one of two directions."""

    def __init__(self, d_model):
        self.d_model = d_model
        self.calls = []

    def verbalize(self, acts):
        self.calls.append(len(acts))
        return ["up" if act[0] > 0 else "down" for act in acts]

    def reconstruct(self, texts):
        towards = torch.zeros(len(texts), self.d_model)
        for row, text in enumerate(texts):
            towards[row, ("up" in text) - 1] = 1.0
        return towards


@pytest.fixture(scope="module", params=["bridge", *(["hooked"] if zoo.HAS_HOOKED_TRANSFORMER else [])])
def model(request):
    return zoo.bridge("llama") if request.param == "bridge" else zoo.hooked_transformer()


def site(model):
    return f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"


def run(model, tokens, adapter):
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=adapter.hooks(model))


def test_positions_that_no_text_reached_are_told(model):
    tokens = zoo.tokens(2, 5)
    for positions, told in (([1, 7], r"positions \[7\] were"), (slice(6, 9), "no position of slice")):
        adapter = SteeringAdapter(Words(zoo.D_MODEL), site(model), lambda text: "up", positions=positions)
        assert adapter.results() == [], "before it ran there is nothing to tell"
        run(model, tokens, adapter)
        with pytest.warns(UserWarning, match=told):
            assert len(adapter.results()) == (2 if isinstance(positions, list) else 0)
    reached = SteeringAdapter(Words(zoo.D_MODEL), site(model), lambda text: "up", positions=[0, -1])
    run(model, tokens, reached)
    assert len(reached.results()) == 4


@pytest.mark.parametrize(("rewrite", "strength"), [(lambda text: text, 1.0), (lambda text: "up", 0.0)])
def test_no_edit_and_no_strength_are_bit_equal(model, rewrite, strength):
    tokens = zoo.tokens(2, 6)
    with torch.no_grad():
        plain = model(tokens)
    adapter = SteeringAdapter(Words(model.cfg.d_model), site(model), rewrite, strength=strength)
    assert torch.equal(run(model, tokens, adapter), plain)
    assert len(adapter.results()) == 12
    assert zoo.hook_counts(model) == {}


def test_only_chosen_positions_change(model):
    tokens = zoo.tokens(2, 6)
    name = site(model)
    seen = {}
    keep = (name, lambda value, hook: seen.update(state=value.clone()))
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[keep])
        plain = seen.pop("state")
        adapter = SteeringAdapter(Words(model.cfg.d_model), name, lambda text: "up up", positions=[1, -1])
        model.run_with_hooks(tokens, fwd_hooks=[*adapter.hooks(model), keep])
    steered = seen["state"]
    assert torch.equal(steered[:, [0, 2, 3, 4]], plain[:, [0, 2, 3, 4]])
    words = Words(model.cfg.d_model)
    acts = plain[:, [1, 5]].flatten(0, 1)
    expected = change_states(words, acts, lambda text: "up up").shift
    torch.testing.assert_close(steered[:, [1, 5]].flatten(0, 1), acts + expected, atol=1e-5, rtol=1e-5)


def test_replace_keeps_the_norm():
    acts = torch.randn(6, 16) * torch.linspace(1, 9, 6)[:, None]
    for strength in (0.3, 1.0):
        changed = acts + change_states(Words(16), acts, lambda text: "up", "replace", strength).shift
        torch.testing.assert_close(changed.norm(dim=-1), acts.norm(dim=-1))
    torch.testing.assert_close(normalise(changed), normalise(Words(16).reconstruct(["up"])).expand(6, -1))


def test_schedule_of_strengths(model):
    adapter = SteeringAdapter(Words(model.cfg.d_model), site(model), lambda text: "up up", "replace",
                              strength=lambda position: 1.0 if position == 3 else 0.0)  # fmt: skip
    run(model, zoo.tokens(1, 6), adapter)
    assert [row.size > 0 for row in adapter.results()] == [False, False, False, True, False, False]


def test_a_hook_that_raises_leaves_nothing(model):
    adapter = SteeringAdapter(Words(model.cfg.d_model), site(model), lambda text: 1 / 0)
    with torch.no_grad():
        plain = model(zoo.tokens(1, 5))
    with pytest.raises(ZeroDivisionError):
        run(model, zoo.tokens(1, 5), adapter)
    assert zoo.hook_counts(model) == {}
    with torch.no_grad():
        assert torch.equal(model(zoo.tokens(1, 5)), plain)


def generate(tiny, tokens, adapter, cache):
    with tl_nla.attach(tiny.model, adapter):
        return tiny.model.generate(
            tokens, max_new_tokens=8, do_sample=False, use_past_kv_cache=cache, verbose=False, stop_at_eos=False
        )


def test_same_text_with_and_without_the_cache(tiny, tokens):
    texts = []
    for cache in (True, False):
        adapter = SteeringAdapter(tiny.nla, SITE, substitute({"red": "yellow"}), max_new_tokens=60)
        texts.append(generate(tiny, tokens, adapter, cache))
        rows = adapter.results()
        assert len(rows) == tokens.shape[1] + 7, "every state is verbalized once"
    assert torch.equal(*texts)


def test_batch_equals_one_by_one(tiny):
    stories = ["Tom had a kite painted red. The kite was", "Ivy had a drum painted blue. The drum was"]
    batch = torch.cat([tiny.model.to_tokens(story) for story in stories])
    rewrite = substitute({"red": "yellow", "blue": "green"})
    together = run(tiny.model, batch, SteeringAdapter(tiny.nla, SITE, rewrite, positions=-1))
    for row, story in enumerate(stories):
        alone = run(tiny.model, tiny.model.to_tokens(story), SteeringAdapter(tiny.nla, SITE, rewrite, positions=-1))
        torch.testing.assert_close(together[row], alone[0], atol=2e-3, rtol=1e-3)


def test_words_move_the_next_token(tiny, tokens):
    red, yellow = (tiny.tokenizer.encode(word, add_special_tokens=False)[0] for word in (" red", " yellow"))
    with torch.no_grad():
        plain = tiny.model(tokens)[0, -1].softmax(-1)
    adapter = SteeringAdapter(tiny.nla, SITE, substitute({"red": "yellow"}), positions=-1)
    steered = run(tiny.model, tokens, adapter)[0, -1].softmax(-1)
    assert plain[red] > 0.9
    assert steered[yellow] > plain[yellow]
    row = adapter.results()[0]
    assert "red" in row.before
    assert "yellow" in row.after


def test_vector_adapter_scales_to_the_state(model):
    vector = SteeringVector(torch.randn(model.cfg.d_model), site(model), strength=2.0)
    adapter = VectorAdapter(vector, strength=0.5, positions=-1)
    run(model, zoo.tokens(1, 5), adapter)
    expected = vector.vector.norm() / model.cfg.d_model**0.5
    assert adapter.results()[0].size == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"mode": "add"}, "delta"), ({"positions": "first"}, "positions"), ({"site": "blocks.1.query"}, "site")],
)
def test_refuses(settings, says):
    settings = {"site": "blocks.1.hook_resid_post", **settings}
    with pytest.raises(InputError, match=says):
        SteeringAdapter(Words(16), settings.pop("site"), append("x"), **settings)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("rewrite", ["red->yellow", {"red": "yellow"}, None, [str.upper, "red->yellow"]])
def test_what_is_no_rewriter_is_refused_at_once(rewrite):
    with pytest.raises(InputError, match="give a function from text to text"):
        SteeringAdapter(Words(16), SITE, rewrite)


def test_refuses_another_width(tiny):
    with pytest.raises(InputError, match="d_model"):
        SteeringAdapter(Words(7), SITE, expect("red")).hooks(tiny.model)


WRITES = ["blocks.1.attn", "blocks.1.mlp", "blocks.1", "blocks.1.attn.head.2",
          "blocks.0.hook_resid_post -> blocks.1.hook_resid_mid"]  # fmt: skip


@pytest.mark.parametrize("text", WRITES)
def test_a_write_is_changed_where_it_enters_the_stream(model, text):
    tokens, words = zoo.tokens(2, 6), Words(model.cfg.d_model)
    after = "blocks.1.hook_resid_mid" if text in (WRITES[0], *WRITES[3:]) else "blocks.1.hook_resid_post"
    plain = tl_nla.read(model, tokens, [text, after], positions=[1, -1])
    write = plain[text]
    seen = {}
    adapter = SteeringAdapter(words, text, lambda said: f"{said} up", "replace", 0.5, positions=[1, -1])
    keep = (after, lambda value, hook: seen.update(state=value.clone()))
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[*adapter.hooks(model), keep])
    expected = change_states(words, write, lambda said: f"{said} up", "replace", 0.5).shift
    assert expected.norm() > 0.1 * write.norm()
    torch.testing.assert_close(seen["state"][:, [1, 5]].flatten(0, 1), plain[after] + expected, atol=1e-4, rtol=1e-4)
    assert [row.site for row in adapter.results()] == [text] * 4


def test_a_write_is_steered_alike_with_and_without_the_cache(model):
    texts = []
    for cache in (True, False):
        adapter = SteeringAdapter(Words(model.cfg.d_model), "blocks.0.attn.head.1", lambda text: f"{text} up",
                                  "replace", 3.0)  # fmt: skip
        with tl_nla.attach(model, adapter):
            texts.append(model.generate(zoo.tokens(2, 4), max_new_tokens=4, do_sample=False, stop_at_eos=False,
                                        verbose=False, use_past_kv_cache=cache, return_type="tokens"))  # fmt: skip
        assert len(adapter.results()) == 2 * 7
    assert torch.equal(*texts)


def test_layers_are_steered_one_above_the_other(model):
    tokens, words = zoo.tokens(1, 5), Words(model.cfg.d_model)
    lower, upper = (SteeringAdapter(words, f"blocks.{layer}.hook_resid_post", lambda text: "up up", "replace",
                                    positions=-1) for layer in (0, 1))  # fmt: skip
    seen = []
    keep = ("blocks.1.hook_resid_post", lambda value, hook: seen.append(value[:, -1].clone()))
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[*lower.hooks(model), keep])
        model.run_with_hooks(tokens, fwd_hooks=[*lower.hooks(model), *upper.hooks(model), keep])
    below, both = seen
    shift = change_states(words, below, lambda text: "up up", "replace").shift
    torch.testing.assert_close(both, below + shift, atol=1e-5, rtol=1e-5)


def test_each_row_may_have_its_own_edit(model):
    tokens, words = zoo.tokens(2, 5), Words(model.cfg.d_model)
    edits = [lambda text: text, lambda text: f"not {text}, up"]
    adapter = SteeringAdapter(words, site(model), edits, positions=[2, -1])
    run(model, tokens, adapter)
    assert [(row.batch, row.before == row.after) for row in adapter.results()] == [(0, True)] * 2 + [(1, False)] * 2
    with pytest.raises(InputError, match="rewriters"):
        run(model, zoo.tokens(3, 5), adapter)


def test_a_write_of_several_branches_is_moved_as_a_whole():
    """Experts and a shared MLP write one after the other: the change enters behind both."""
    hybrid, tokens = families.bridge("granite_moe_hybrid"), torch.arange(1, 9)[None]
    direction = torch.randn(hybrid.cfg.d_model, generator=torch.Generator().manual_seed(0))
    write = tl_nla.read(hybrid, tokens, ["blocks.1.mlp"], [5]).precise("blocks.1.mlp").float()
    entering = []
    watch = hybrid.blocks[2].register_forward_pre_hook(lambda block, args: entering.append(args[0].detach()))
    try:
        with torch.no_grad():
            hybrid(tokens)
            with attach(hybrid, VectorAdapter(SteeringVector(direction, "blocks.1.mlp", strength=0.5), positions=[5])):
                hybrid(tokens)
    finally:
        watch.remove()
    wanted = torch.zeros_like(entering[0])
    wanted[:, 5] = 0.5 * write.norm() * direction / direction.numel() ** 0.5
    assert torch.allclose(entering[1] - entering[0], wanted, atol=1e-5)
