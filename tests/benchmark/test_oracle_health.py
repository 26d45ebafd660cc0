"""Oracles that tell nothing are complained about, and others are not."""

import pytest
import torch

from tl_nla.benchmark.oracle_health import DISTINCT, check_oracle, complaints, note_distinct
from tl_nla.benchmark.oracle_rows import OracleRows

SITES = ("blocks.0.attn.head.0", "blocks.0.attn.head.1", "blocks.0.mlp")


def rows(explanation, shuffled, component, untrained=()):
    """Sixty rows of ten documents with these FVE, a little noise in each."""
    count, noise = 60, torch.Generator().manual_seed(0)
    made = OracleRows(0, SITES, untrained, torch.zeros(4, 8), torch.arange(count) % 3, torch.arange(count) // 6,
                      torch.arange(count), torch.ones(count))  # fmt: skip
    for arm, fve in (("explanation", explanation), ("shuffled", shuffled), ("component", component)):
        made.errors[arm] = 1 - fve + 0.05 * torch.randn(count, generator=noise)
    note_distinct(made, [f"text {i}" for i in range(count)])
    return made


def test_words_that_rebuild_more_than_other_writes_words_and_the_name_are_fine():
    assert complaints(rows(0.6, 0.1, 0.12)) == []


@pytest.mark.parametrize(("explanation", "shuffled"), [(-0.79, -0.79), (0.3, 0.4)])
def test_words_no_better_than_those_of_other_writes_are_useless(explanation, shuffled):
    (found,) = complaints(rows(explanation, shuffled, 0.12))
    assert "tell nothing of a write" in found
    assert f"FVE {explanation:.2f}, with those of other writes {shuffled:.2f}" in found.replace("-0.80", "-0.79")


def test_words_that_rebuild_less_than_the_components_name_are_said_to():
    (found,) = complaints(rows(0.05, -0.4, 0.12))
    assert "less than the component's name" in found


def test_words_that_are_all_alike_are_said_to_be():
    made = rows(0.6, 0.1, 0.12)
    note_distinct(made, ["same"] * 59 + ["other"])
    assert made.counts[DISTINCT].sum(0).tolist() == [2.0, 60.0]
    assert complaints(made) == ["it says 2 different explanations of 60 writes"]


def test_components_that_nothing_was_trained_on_do_not_count():
    made = rows(0.6, 0.1, 0.12, untrained=(SITES[2],))
    made.errors["explanation"][made.site == 2] = 50.0
    assert complaints(made) == []


def test_an_untrained_oracle_is_complained_about():
    from tests import zoo
    from tests.oracle.test_pursuit_labels import DOCUMENTS
    from tests.oracle.tiny import make_oracle
    from tl_nla.oracle.capture import CaptureConfig, capture_writes

    model = zoo.bridge("llama")
    found = capture_writes(model, zoo.tokenizer(), DOCUMENTS, SITES, CaptureConfig(skips=False))
    found = found.with_strength(found.reference())
    assert any("tell nothing" in one for one in check_oracle(make_oracle(), found, found, most=24))
