"""Errors planted in a model end in right numbers, in a warning, or in a refusal, in float32 and in bfloat16."""

import functools
import json

import pytest
import torch

from tests import families, zoo
from tests.attribution.reference import leave_out
from tests.model.planted import GAINS, LAYER, Reference, plants
from tl_nla.attribution import DirectConfig, direct_attribution, skip_logits
from tl_nla.attribution.components import as_component
from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of
from tl_nla.reports import ContributionReport, layer_contributions
from tl_nla.reports.report_text import markdown

DTYPES = (torch.float32, torch.bfloat16)
NAMES = tuple(plants(families.bridge("llama")))
TARGETS, TOKENS = zoo.tokens(2, 7, seed=9), zoo.tokens(2, 7)
SILENT = 0.01


@functools.cache
def shared(family, dtype):
    return families.bridge(family, dtype)


def fresh_facts(model):
    """Have the facts found anew: a change of the final gain in place, by nothing."""
    with torch.no_grad():
        model.ln_final.original_component.weight.mul_(1.0)


def worst(found, reference, name, target):
    """The largest error of any part at each position, as a share of the range of the logits."""
    gain = GAINS.get(name, torch.ones(())) * (1.3 if name == "scaled logits" else 1.0)
    # A block that scales its stream may be told as such, or the scaling be left unaccounted for.
    readings = {"residual": (1.0, 1.05), "residual outside": (1.0, 1.05), "scaled edit": (1.0, 1.1)}.get(name, (1.0,))
    errors = []
    for scaled_up in readings:
        parts = reference.parts(target, gain, scaled_up)
        own = [(found[label].double() - value).abs() for label, value in parts.items() if label in found.labels]
        errors.append(torch.stack(own).amax(0) / reference.range)
    return min(errors, key=lambda error: float(error.max()))


# The reference knows OLMo 2 by the names of TransformerLens 4; tests/model/test_families.py has it on both lines.
CLEAN = ["gpt2", "llama", "gemma2", *(["olmo2"] if zoo.TL_MAJOR >= 4 else [])]
BEHIND_A_CAP = ("gain", "missing bias", "scaled logits", "squashed logits", "logits outside", "projection")
FEW = ("gain", "missing bias", "branch", "residual", "head", "logits", "edit", "edit between")
PLANTED = [
    *(("gpt2", name, torch.float32) for name in NAMES),
    *(("llama", name, torch.bfloat16) for name in NAMES),
    *(("gpt2", name, torch.bfloat16) for name in FEW),
    *(("llama", name, torch.float32) for name in FEW),
    *(("gemma2", name, dtype) for name in BEHIND_A_CAP for dtype in DTYPES),
]


@pytest.mark.parametrize(("family", "name", "dtype"), PLANTED)
def test_no_planted_error_is_silent(family, name, dtype):
    model = shared(family, dtype)
    facts_of(model)
    with plants(model)[name]():
        if dtype == torch.bfloat16:  # else what is known of the model is from before the plant
            fresh_facts(model)
        reference = Reference(model, TOKENS)
        found = direct_attribution(model, TOKENS, TARGETS, unit="head", how=DirectConfig(max_unaccounted=1e9))
    fresh_facts(model)
    told = found.unaccounted_share.double() > SILENT
    error = worst(found, reference, name, TARGETS)
    assert bool((told | (error <= SILENT)).all()), (error, found.unaccounted_share)
    moved = found["rounding"].double().abs() / reference.range
    assert bool((told | (moved <= SILENT)).all()), moved


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", CLEAN)
def test_without_a_planted_error_parts_are_right_and_nothing_is_said(family, dtype):
    model = shared(family, dtype)
    reference = Reference(model, TOKENS)
    found, half = direct_attribution(model, TOKENS, TARGETS, unit="head"), dtype == torch.bfloat16
    assert float(worst(found, reference, "none", TARGETS).max()) < 1e-3
    assert float(found.unaccounted_share.max()) < (5e-3 if half else 1e-5)
    assert float((found["rounding"] / found.logit_range).abs().max()) < (SILENT if half else 1e-5)
    assert found.notes == ()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gain", "missing bias", "bent norm", "scaled norm", "logits", "logits outside"])
def test_large_errors_behind_the_last_block_are_refused(name, dtype):
    model = shared("llama", dtype)
    with plants(model)[name](), pytest.raises(InputError, match="of the range of the logits is unaccounted for"):
        direct_attribution(model, TOKENS, TARGETS, how=DirectConfig(max_unaccounted=0.03))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("edit", r"hooks of yours at blocks\.1\.hook_(resid_post|out)"),
        ("gain", "no form of the final norm reproduces it"),
    ],
)
def test_a_refusal_names_what_is_at_fault(name, said, dtype):
    with plants(shared("llama", dtype))[name](), pytest.raises(InputError, match=said):
        direct_attribution(shared("llama", dtype), TOKENS, 5, how=DirectConfig(max_unaccounted=0.001))


SITES = ("blocks.0.mlp", "blocks.1.mlp", "blocks.0.attn", "blocks.1.attn.head.1")
PLANTED_RUNS = (
    *("branch", "branch outside", "residual", "residual outside", "head", "attention", "mlp", "scaled edit", "edit"),
    *("edit before", "edit between", "last edit", "gain", "logits", "scaled logits", "logits outside"),
)


@pytest.mark.parametrize("name", PLANTED_RUNS)
def test_skips_are_those_of_the_model_as_it_is_or_refused(name):
    model, tokens = shared("llama", torch.float32), TOKENS[:, :5]
    for site in SITES:  # what was proved without the plant must not hold with it
        skip_logits(model, tokens, site)
    with plants(model)[name]():
        for site in SITES:
            try:
                found = skip_logits(model, tokens, site)
                part = as_component(site, model)
            except InputError:
                continue
            expected = leave_out(model, tokens, part, 3)[:, 3]
            scale = expected.amax(-1) - expected.amin(-1)
            error = (found[:, 3] - expected).abs().amax(-1) / scale
            assert float(error.max()) <= 1e-3, site


def test_a_part_that_nothing_changes_is_still_skipped_under_hooks():
    model = shared("llama", torch.float32)
    with (
        plants(model)["edit between"](),
        pytest.raises(InputError, match=r"hooks? of yours|between blocks|changes earlier ones"),
    ):
        skip_logits(model, TOKENS, "blocks.0.mlp")
    for name in ("head", "scaled edit", "scaled logits", "branch outside"):
        with plants(model)[name]():
            skip_logits(model, TOKENS, "blocks.1.attn")


def report_with(share, dtype=torch.float32, **settings):
    """A report of a model whose logits are shifted so far that this share is unaccounted for at position 3."""
    model = shared("llama", dtype)
    with torch.no_grad():
        logits = model(TOKENS[:1])[0, 3].float()
    target = int(logits.argsort()[len(logits) // 2])  # neither end of the range, which stays what it is
    size = share * float(logits.max() - logits.min())
    bump = size * (torch.arange(zoo.VOCAB) == target)
    handle = model.unembed.register_forward_hook(lambda module, given, out: out + bump.to(out))
    try:
        return layer_contributions(model, TOKENS[:1], target=target, positions=3, tokenizer=zoo.tokenizer(),
                                   skips=False, **settings)  # fmt: skip
    finally:
        handle.remove()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.004, 0.02, 0.045])
def test_a_report_says_what_is_unaccounted_for(share, dtype):
    report = report_with(share, dtype)
    rounding = 0.004 if dtype == torch.bfloat16 else 1e-4
    assert abs(report.unaccounted_share[0] - share) < rounding
    assert abs(report.unaccounted[0] - (report.totals[0] - report.sum_of_parts(3))) < 1e-4
    told = report.to_dict()["total"]
    assert told["unaccounted"] == list(report.unaccounted)
    assert told["unaccounted_share"] == list(report.unaccounted_share)
    again = ContributionReport.from_dict(json.loads(report.to_json()))
    assert again == report
    assert again.warning == report.warning
    text = markdown(report)
    assert f"{report.unaccounted_share[0]:.2%} of the logits' range" in text
    assert text.startswith("**WARNING") == (share > 0.01)
    if share > 0.01:
        assert (
            f"up to {report.unaccounted_share[0]:.1%} of the range of the logits is unaccounted for" in report.warning
        )
    else:
        assert report.warning is None


def test_above_five_hundredths_a_report_is_refused_unless_asked_for():
    with pytest.raises(InputError, match=r"6.0% of the range of the logits is unaccounted for \(5% is allowed\)"):
        report_with(0.06)
    report = report_with(0.06, max_unaccounted=0.1)
    assert "up to 6.0%" in report.warning
    with pytest.raises(InputError, match="10% is allowed"):
        report_with(0.2, max_unaccounted=0.1)
    with pytest.raises(InputError, match="1% is allowed"):
        report_with(0.02, max_unaccounted=0.01)


def test_a_report_notes_what_it_could_not_split():
    model = shared("llama", torch.float32)
    with plants(model)["branch"]():
        fresh_facts(model)
        report = layer_contributions(model, TOKENS[:1], positions=3, tokenizer=zoo.tokenizer())
    fresh_facts(model)
    noted = [note for note in report.notes if f"blocks.{LAYER} stays whole: it is no sum of parts" in note]
    assert len(noted) == 1
    assert report.warning is None
    assert {cell.component for cell in report.cells if cell.layer == LAYER} == {"block"}
    assert ContributionReport.from_dict(json.loads(report.to_json())).notes == report.notes
    assert "**Note** blocks.1 stays whole" in markdown(report)


def test_an_attention_that_a_hook_changes_stays_whole_with_a_note():
    model = shared("llama", torch.float32)
    with plants(model)["attention"]():
        found = direct_attribution(model, TOKENS, 5, unit="head")
    assert f"blocks.{LAYER}.attn" in found.labels
    assert f"blocks.{LAYER}.attn.head.0" not in found.labels
    assert "Either hooks of yours or autocast change it on the way" in found.notes[0]
