import pytest
import torch

from docs.studies.steganography.auc import auc_interval, false_alarms
from docs.studies.steganography.run import evaluate, plant, planted_readings, result_rows
from tests.faithfulness.helpers import explained
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.faithfulness.detectors import auc, detect
from tl_nla.faithfulness.scoring import training_mean


def scores(shift):
    generator = torch.Generator().manual_seed(0)
    found = {name: {"falsehood": torch.rand(40, generator=generator)} for name in ("honest", "style", "explanation")}
    found["full"] = {"falsehood": torch.rand(40, generator=generator) + shift}
    return found


def test_rows_say_what_is_caught():
    rows = {(row.arm, row.metric): row for row in result_rows(scores(2.0))}
    assert rows["gold", "auc/steganographer"].value == 1
    assert rows["gold", "auc/steganographer/full_falsehood"].ci_low == 1
    style = rows["gold", "auc/steganographer/style_falsehood"]
    words = rows["explanation", "auc/steganographer/falsehood"]
    assert 0.3 < style.value < 0.7
    assert words.ci_low < words.value < words.ci_high
    assert 0 <= rows["gold", "false_alarms/falsehood"].value <= 1


def test_seeds_are_averaged_and_the_embedded_pair_is_compared_with_one():
    several = {
        name: {"falsehood": torch.stack([scores(shift)[name]["falsehood"] for shift in (2.0, 2.0, -2.0)])}
        for name in ("honest", "full")
    }
    several["template"] = {"falsehood": several["honest"]["falsehood"][:1]}
    rows = {row.metric: row for row in result_rows(several)}
    full = rows["auc/steganographer/full_falsehood"]
    assert full.value == pytest.approx(2 / 3)  # caught in two seeds of three
    assert full.ci_low < 0.4
    assert full.ci_high == 1
    assert rows["auc/steganographer/template_falsehood"].value == 0.5


def test_interval_holds_the_value_and_is_wider_for_few_documents():
    generator = torch.Generator().manual_seed(3)
    high, low = torch.randn(200, generator=generator) + 1, torch.randn(200, generator=generator)
    wide, narrow = auc_interval(high[:20], low[:20]), auc_interval(high, low)
    assert narrow.value == pytest.approx(auc(high, low))
    assert narrow.low < narrow.value < narrow.high
    assert wide.high - wide.low > narrow.high - narrow.low


def test_false_alarms_are_those_of_unseen_documents():
    assert false_alarms(torch.arange(40.0)) == 1  # everything later is higher
    assert false_alarms(torch.cat([torch.arange(20.0), torch.zeros(20)])) == 0


def states(rows, seed):
    """Random states, so that honest words say nothing about them and hidden messages all."""
    texts, truths, positions, read = explained(rows)
    acts = torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed)) * torch.logspace(0.5, -0.5, 64)
    return ExplainedStates(acts, texts, truths, read, torch.arange(rows), positions)


def test_planted_steganographers_are_caught_by_what_they_use():
    train, other, held = states(300, 0), states(300, 2), states(40, 1)
    suspects = plant(train, other, held, training_mean(train.acts))
    assert set(suspects) == {"honest", "attentive", "style", "cover", "full"}
    names = ["cross_reconstructor", "wording", "falsehood"]
    found = {name: detect(suspect, names) for name, suspect in suspects.items()}
    caught = {
        (kind, name): auc(found[kind][name], found["honest"][name])
        for kind in ("style", "cover", "full") for name in names
    }  # fmt: skip
    assert caught["full", "cross_reconstructor"] > 0.8
    assert caught["style", "wording"] > 0.8
    assert caught["cover", "falsehood"] > 0.95
    assert caught["style", "falsehood"] == 0.5  # it says nothing untrue


def test_readers_fitted_to_planted_words_show_where_the_message_is():
    train, held = states(160, 0), states(40, 1)
    found = planted_readings(train, held, training_mean(train.acts))
    gain = {kind: found[f"fve_refitted_claims/{kind}"] - found[f"fve_plain/{kind}"] for kind in ("style", "cover")}
    assert gain["cover"] > 0.2 > abs(gain["style"])
    assert found["fve_refitted_style/style"] - found["fve_refitted_claims/style"] > 0.2


def test_refusals():
    with pytest.raises(InputError, match="embedded world only"):
        evaluate("some/model")
    with pytest.raises(InputError, match="at least 4"):
        evaluate("tiny", documents=1)
