"""The numbers of every kind of architecture, in float32 and bfloat16, and refusals where there are none.

The measure in bfloat16 is the model itself: how far its own logits are from those of the same weights in float32.
``docs.models`` asks the same of all families.
"""

import functools
import re

import pytest
import torch

from tests import families, zoo
from tests.hf_reference import reference_writes
from tl_nla.adapters import VectorAdapter, attach
from tl_nla.attribution import direct_attribution, skip_effects
from tl_nla.attribution.components import all_components
from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of
from tl_nla.model.reading import read
from tl_nla.oracle.labels import Lens, Vocabulary, head_sources, probability_effects
from tl_nla.reports import layer_contributions
from tl_nla.steering import SteeringVector

ODD = [
    *[(family, "float32") for family in ("openai_gpt", "gemma3n", "deepseek_v4", "hrm_text", "rwkv")],
    *[(family, "bfloat16") for family in ("openai_gpt", "gemma3n", "rwkv", "modernbert_decoder")],
]
SAMPLE = families.SAMPLE
UNITS = ("component", "layer", "head")
TOKENS = zoo.tokens(2, 8)


@functools.cache
def made(family, dtype="float32"):
    return families.bridge(family, getattr(torch, dtype))


@functools.cache
def logits_of(family, dtype="float32"):
    with torch.no_grad():
        return made(family, dtype)(TOKENS).float()


@functools.cache
def parts_of(family, dtype, unit):
    return direct_attribution(made(family, dtype), TOKENS, logits_of(family).argmax(-1), unit=unit)


def scale_of(family):
    return logits_of(family).amax(-1) - logits_of(family).amin(-1)


def rounding_of(family):
    """The model's own rounding at each position, as a share of the range of its logits."""
    return (logits_of(family, "bfloat16") - logits_of(family)).abs().amax(-1) / scale_of(family)


def test_the_sample_has_one_of_each_group():
    for group in (families.PARALLEL, families.POST_NORM, families.MULTIPLIED, families.STREAM_SCALED, families.MOE,
                  families.MLA, families.HYBRID, families.NO_ATTENTION, families.LOGITS_SCALED, families.LOGITS_CAPPED,
                  families.PER_LAYER_EMBEDDINGS):  # fmt: skip
        assert set(group) & set(SAMPLE)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", SAMPLE)
def test_parts_sum_to_the_models_own_logit(family, dtype, unit):
    parts, targets = parts_of(family, dtype, unit), logits_of(family).argmax(-1)
    own = logits_of(family, dtype).gather(-1, targets[..., None])[..., 0]
    summed, cap = parts.values.sum(0), facts_of(made(family, dtype)).readout.cap
    summed = summed if cap is None else cap * torch.tanh(summed / cap)
    error = (summed - own).abs()
    if dtype == "float32":
        assert error.max() <= 1e-4
    else:
        assert (error / scale_of(family)).max() <= rounding_of(family).median()
        # What storing the stream added is a part, and no excuse: it is as small as the model's own rounding.
        assert (parts["rounding"].abs() / scale_of(family)).max() <= 2 * rounding_of(family).max()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("family", SAMPLE)
def test_bfloat16_parts_are_the_float32_parts_of_the_same_weights(family, unit):
    ours, wanted = parts_of(family, "bfloat16", unit), parts_of(family, "float32", unit)
    assert ours.labels == wanted.labels
    own = rounding_of(family)
    allowed = 2 * torch.maximum(own, own.median())  # a write is the difference of two states
    for label in set(ours.labels) - {"rounding", "bias"}:
        share = (ours[label] - wanted[label]).abs() / scale_of(family)
        assert bool((share <= allowed).all()), label


@pytest.mark.parametrize("family", SAMPLE)
def test_blocks_parts_and_heads_are_those_of_hooks_on_the_hugging_face_model(family):
    if family in families.WRONG_LOGITS:
        pytest.skip("TransformerLens computes another model than Hugging Face here")
    wanted = reference_writes(family, families.build(family), TOKENS)
    wanted = {_name(family, name): value for name, value in wanted.items() if "carried" not in name}
    model = made(family)
    parts = {str(part) for part in all_components(model, ("block", "attn", "mixer", "mlp", "ple", "head"))}
    # Of a mixer beside an attention the heads are not listed, but they can be read.
    assert parts == {name for name in wanted if "mixer.head" not in name or name in parts}
    reading = read(model, TOKENS, list(wanted))
    for name, value in wanted.items():
        found = reading.precise(name).reshape(*TOKENS.shape, -1)
        torch.testing.assert_close(found, value, atol=5e-5, rtol=1e-3, msg=lambda text, name=name: name + text)


def _name(family, name):
    """What we call a part of the reference: TransformerLens calls whatever a block of Nemotron-H does its mixer."""
    name = name.replace("per_layer", "ple")
    return re.sub(r"\.(attn|mlp)\b", ".mixer", name) if family == "nemotron_h" else name


def entry_points(model):
    """Everything that a user may ask of a model, by name."""
    target = TOKENS[0]
    layers = range(int(model.cfg.n_layers))
    vector = SteeringVector(torch.ones(int(model.cfg.d_model)), "blocks.1.hook_resid_post")

    def steered():
        with attach(model, VectorAdapter(vector)):
            model(TOKENS)

    asked = {f"direct {unit}": lambda unit=unit: direct_attribution(model, TOKENS, TOKENS, unit=unit) for unit in UNITS}
    sites = ("blocks.1", "blocks.1.attn", "blocks.1.mixer", "blocks.1.mlp", "blocks.1.ple", "blocks.1.attn.head.0",
             "blocks.1.mixer.head.0", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post", "hook_embed",
             "ln_final.hook_normalized")  # fmt: skip
    asked |= {f"read {site}": lambda site=site: read(model, TOKENS, [site]).precise(site) for site in sites}
    asked |= {f"sources {layer}": lambda layer=layer: head_sources(model, TOKENS, layers=[layer]) for layer in layers}
    state = torch.ones(2, int(model.cfg.d_model))
    vocabulary = Vocabulary.of(None, zoo.VOCAB)
    return asked | {
        "components": lambda: all_components(model),
        "skips": lambda: skip_effects(model, TOKENS[:1], positions=[3]),
        "head skips": lambda: skip_effects(model, TOKENS[:1], ["blocks.1.attn.head.0"], positions=[3]),
        "lens": lambda: Lens.of(model),
        "probabilities": lambda: probability_effects(model, state, state, vocabulary),
        "report": lambda: layer_contributions(model, TOKENS[0], target=target),
        "steering": steered,
    }


@pytest.mark.parametrize(("family", "dtype"), ODD)
def test_odd_models_are_exact_or_refused(family, dtype):
    model = made(family, dtype)
    for name, ask in entry_points(model).items():
        try:
            found = ask()
        except InputError:
            continue
        if name.startswith("direct"):
            limit = 1e-4 if dtype == "float32" else (rounding_of(family).median() * scale_of(family))
            assert bool(((found.values.sum(0) - found.total).abs() <= limit).all()), name
    assert not zoo.hook_counts(model)


def test_codegen_cannot_run_in_bfloat16_and_all_of_it_says_so():
    asked = entry_points(made("codegen", "bfloat16"))
    del asked["steering"]  # the adapter goes on; the model itself then fails
    for ask in asked.values():
        with pytest.raises(InputError, match="cannot be run on token ids"):
            ask()


def test_words_are_refused_where_a_layer_stands_before_the_unembedding():
    model = made("modernbert_decoder")
    state = torch.ones(2, zoo.D_MODEL)
    for ask in (lambda: Lens.of(model),
                lambda: probability_effects(model, state, state, Vocabulary.of(None, zoo.VOCAB))):  # fmt: skip
        with pytest.raises(InputError, match="more behind its last block than norm and unembedding"):
            ask()
    # What lies before it can be read all the same.
    reading = read(model, TOKENS, ["blocks.1", "blocks.1.attn", "blocks.1.mlp"])
    torch.testing.assert_close(reading["blocks.1.attn"] + reading["blocks.1.mlp"], reading["blocks.1"])


def test_skips_are_refused_where_the_stream_changes_between_two_blocks():
    model = made("rwkv")  # the tiny one halves its stream behind every second block
    with pytest.raises(InputError, match=r"blocks.1 cannot be left out.*changes the residual stream"):
        skip_effects(model, TOKENS, ["blocks.1"], positions=[3])
    halved = read(model, TOKENS, ["blocks.1.hook_resid_post", "blocks.2.hook_resid_pre"])
    torch.testing.assert_close(halved["blocks.2.hook_resid_pre"], halved["blocks.1.hook_resid_post"] / 2)


def test_a_site_that_never_fires_is_named_itself():
    with pytest.raises(InputError, match=r"so blocks\.1\.hook_resid_post cannot be read"):
        read(made("openai_gpt"), TOKENS, ["blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"])


@pytest.mark.parametrize("family", ["xglm", "falcon_alibi"])
def test_a_proof_for_two_texts_is_none_for_one(family):
    """These models' masks have a row for each text, and are not repeated where there is one text only."""
    model = made(family)
    both = skip_effects(model, TOKENS, positions=[3])
    alone = [skip_effects(model, row[None], positions=[3]) for row in TOKENS]
    kl = torch.cat([found.kl[..., 3] for found in alone], -1)
    torch.testing.assert_close(kl, both.kl[..., 3], atol=1e-5, rtol=1e-3)


def test_heads_that_read_ahead_have_no_sources():
    model = families.bridge("llama")
    # A pattern that looks ahead, as latent attention has in TransformerLens 3.9.
    model.hook_dict["blocks.1.attn.hook_pattern"].add_hook(lambda pattern, hook: torch.full_like(pattern, 1 / 8))
    with pytest.raises(InputError, match="read later positions"):
        head_sources(model, TOKENS, layers=[1])
    assert head_sources(model, TOKENS, layers=[0]).layers == (0,)
