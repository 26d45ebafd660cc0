"""Adapters on models in half precision, under autocast, and on another device than what reads."""

import pytest
import torch

from tests import zoo
from tests.nla.checkpoints import byte_tokenizer
from tests.oracle.tiny import make_oracle
from tl_nla.adapters import DiffAdapter, ReadingAdapter, SteeringAdapter, VectorAdapter, VerbalizerAdapter, attach
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.steering import SteeringVector, substitute

SITES = ["blocks.1.hook_resid_post", "blocks.2.mlp", "blocks.0", "blocks.0.hook_resid_pre -> blocks.2.hook_resid_post"]
SITE = SITES[0]
ROUNDING = {torch.bfloat16: 0.03, torch.float16: 0.004}
"""Relative error of a state behind three blocks, several times what these precisions round off in one sum."""
HALVES = tuple(ROUNDING)
VECTOR = torch.linspace(-1, 2, zoo.D_MODEL).sin()
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma3"])
def models(request):
    """The same weights, rounded to half precision, as the model and in float32."""

    def build(dtype):
        rounded = zoo.hf_model(request.param).to(dtype)
        return zoo.bridge(rounded), zoo.bridge(zoo.hf_model(request.param).to(dtype).float())

    return build


@pytest.fixture(scope="module")
def oracle():
    return make_oracle()


def make_nla(dtype=torch.float32):
    tokenizer = byte_tokenizer()
    model = zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=128)
    templates = "<c>{injection_char}</c>", "<t>{explanation}</t> s"
    nla = NLA.create(model, tokenizer, 1, InjectionConfig("affine", 1.0), *templates).eval()
    nla.verbalizer.model.to(dtype)
    nla.reconstructor.backbone.to(dtype)
    return nla


def generate(model, tokens, cache):
    settings = {"do_sample": False, "stop_at_eos": False, "verbose": False}
    return model.generate(tokens, max_new_tokens=3, use_past_kv_cache=cache, **settings)


def run(model, adapter, tokens, way):
    with attach(model, adapter):
        return model(tokens) if way == "plain" else generate(model, tokens, way == "cache")


def off(found, wanted):
    found, wanted = found.detach().float(), wanted.detach().float()
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("way", ["plain", "cache", "whole"])
@pytest.mark.parametrize("dtype", HALVES)
def test_readings_are_those_of_float32_but_for_rounding(models, dtype, way):
    half, full = models(dtype)
    ids = zoo.tokens(2, 5) if way == "plain" else generate(half, zoo.tokens(2, 5), True)
    found, wanted = ReadingAdapter(SITES), ReadingAdapter(SITES)
    run(half, found, ids[:, :5], way)
    with attach(full, wanted):
        full(ids if way == "plain" else ids[:, :-1])
    left, right = found.reading(), wanted.reading()
    assert torch.equal(left.position, right.position)
    assert torch.equal(left.tokens, right.tokens)
    for site in SITES:
        assert left[site].dtype == dtype
        assert off(left[site], right[site]) < ROUNDING[dtype]


@pytest.mark.parametrize("way", ["cache", "whole"])
@pytest.mark.parametrize("dtype", HALVES)
def test_words_about_a_model_in_half_precision(models, oracle, dtype, way):
    half, _ = models(dtype)
    for own in (torch.float32, *HALVES):
        words = VerbalizerAdapter(make_nla(own), SITES[:2])
        run(half, words, zoo.tokens(2, 5), way)
        rows = words.results(max_new_tokens=3)
        assert len(rows) == 2 * 2 * 7
        assert all(-1.01 <= row.cosine <= 1.01 for row in rows)
    writes = DiffAdapter(oracle, SITES[1:])
    run(half, writes, zoo.tokens(2, 5), way)
    rows = writes.results(max_new_tokens=3)
    assert len(rows) == 3 * 2 * 7
    assert all(row.norm > 0 and -1.01 <= row.cosine <= 1.01 for row in rows)


@pytest.mark.parametrize("site", [SITE, "blocks.1.mlp"])
@pytest.mark.parametrize("dtype", HALVES)
def test_steering_is_that_of_float32_but_for_rounding(models, dtype, site):
    half, full = models(dtype)
    made = [lambda: VectorAdapter(SteeringVector(VECTOR, site), 2.0, positions=[1, -1]),
            lambda: SteeringAdapter(Fixed(), site, substitute({"one": "two"}), positions=[1, -1])]  # fmt: skip
    for make in made:
        found, wanted = (run(model, make(), zoo.tokens(2, 5), "plain") for model in (half, full))
        assert off(found, wanted) < 3 * ROUNDING[dtype]
        assert off(half(zoo.tokens(2, 5)), found) > 5 * ROUNDING[dtype]
        texts = [run(half, make(), zoo.tokens(2, 5), way) for way in ("cache", "whole")]
        assert all(text.shape == (2, 8) for text in texts)


class Fixed:
    """A pair that says one word and reads two."""

    def verbalize(self, acts):
        return ["one"] * len(acts)

    def reconstruct(self, texts):
        return torch.stack([VECTOR if text == "one" else -VECTOR.roll(5) for text in texts])


@pytest.mark.parametrize("dtype", HALVES)
def test_under_autocast(models, oracle, dtype):
    """Whatever the precision of the pair: weights of the other half precision run as they are."""
    _, model = models(torch.float32)
    plain = ReadingAdapter(SITES)
    run(model, plain, zoo.tokens(2, 5), "plain")
    with torch.autocast("cpu", dtype=dtype):
        adapter = ReadingAdapter(SITES)
        run(model, adapter, zoo.tokens(2, 5), "plain")
        for site in SITES:
            assert off(adapter.reading()[site], plain.reading()[site]) < 2 * ROUNDING[dtype]
        for own in (torch.float32, *HALVES):
            words = VerbalizerAdapter(make_nla(own), SITES[:2])
            for way in ("plain", "cache", "whole"):
                run(model, words, zoo.tokens(2, 5), way)
            assert len(words.results(max_new_tokens=3)) == 2 * 2 * (5 + 7 + 7)
            steering = SteeringAdapter(make_nla(own), SITE, lambda text: text + "x", max_new_tokens=2)
            run(model, steering, zoo.tokens(2, 5), "cache")
            assert len(steering.results()) == 2 * 7
        writes = DiffAdapter(oracle, SITES[1:])
        run(model, writes, zoo.tokens(2, 5), "cache")
        assert len(writes.results(max_new_tokens=3)) == 3 * 2 * 7


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize(("there", "here"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_model_and_pair_on_different_devices(there, here):
    model, nla, oracle = zoo.bridge("llama").to(there), make_nla().to(here), make_oracle().to(here)
    tokens = zoo.tokens(2, 5).to(there)
    mask = torch.ones_like(tokens)
    for way in ("plain", "cache", "whole"):
        words = VerbalizerAdapter(nla, [SITE, "blocks.1.attn.head.2"], attention_mask=mask)
        run(model, words, tokens, way)
        assert len(words.results(max_new_tokens=3)) == 2 * 2 * (5 if way == "plain" else 7)
        writes = DiffAdapter(oracle, [*SITES[1:], "blocks.1.attn.head.2"])
        run(model, writes, tokens, way)
        assert len(writes.results(max_new_tokens=3)) == 4 * 2 * (5 if way == "plain" else 7)
        for adapter in (
            VectorAdapter(SteeringVector(VECTOR, SITE)),
            SteeringAdapter(nla, "blocks.1.attn.head.2", lambda text: text + "x", max_new_tokens=2),
        ):
            run(model, adapter, tokens, way)
            assert adapter.results()
