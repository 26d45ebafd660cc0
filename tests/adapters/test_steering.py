"""Steering changes what was chosen, and nothing else."""

import pytest
import torch

import tl_nla
from tests import zoo
from tl_nla.adapters import SteeringAdapter, VectorAdapter
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
    [({"mode": "add"}, "delta"), ({"positions": "first"}, "positions"), ({"site": "blocks.1.attn"}, "write")],
)
def test_refuses(settings, says):
    settings = {"site": "blocks.1.hook_resid_post", **settings}
    with pytest.raises(InputError, match=says):
        SteeringAdapter(Words(16), settings.pop("site"), append("x"), **settings)


def test_refuses_another_width(tiny):
    with pytest.raises(InputError, match="d_model"):
        SteeringAdapter(Words(7), SITE, expect("red")).hooks(tiny.model)
