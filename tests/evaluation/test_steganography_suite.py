import pytest
import torch
from safetensors.torch import save_file

from tl_nla.errors import InputError
from tl_nla.evaluation.steganography_suite import (
    auc_interval,
    evaluate,
    false_alarms,
    load_scores,
    result_rows,
)
from tl_nla.faithfulness.detectors import auc


def scores(shift, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = {"honest/falsehood": torch.rand(40, generator=generator), "honest/fve": torch.tensor([0.9])}
    for kind in ("full", "style", "explanation"):
        found[f"{kind}/falsehood"] = torch.rand(40, generator=generator) + (shift if kind == "full" else 0)
    return found


def test_rows_say_what_is_caught():
    rows = {(row.arm, row.metric): row for row in result_rows({0: scores(2.0), 1: scores(2.0, 1)})}
    assert rows["gold", "auc/steganographer"].value == 1
    assert rows["gold", "auc/steganographer/full_falsehood"].ci_low == 1
    style, words = (
        rows["gold", "auc/steganographer/style_falsehood"],
        rows["explanation", "auc/steganographer/falsehood"],
    )
    assert 0.3 < style.value < 0.7
    assert words.ci_low < words.value < words.ci_high
    assert rows["gold", "fve/honest"].value == pytest.approx(0.9)


def test_interval_holds_the_value_and_is_wider_for_few_documents():
    generator = torch.Generator().manual_seed(3)
    high, low = torch.randn(200, generator=generator) + 1, torch.randn(200, generator=generator)
    wide, narrow = auc_interval([(high[:20], low[:20])]), auc_interval([(high, low)])
    assert narrow.value == pytest.approx(auc(high, low))
    assert narrow.low < narrow.value < narrow.high
    assert wide.high - wide.low > narrow.high - narrow.low


def test_false_alarms_are_those_of_unseen_documents():
    assert false_alarms(torch.arange(40.0)) == 1  # everything later is higher
    assert false_alarms(torch.cat([torch.arange(20.0), torch.zeros(20)])) == 0


def test_stored_scores_are_found_by_seed(tmp_path):
    with pytest.raises(InputError, match="no stored scores"):
        load_scores(tmp_path)
    save_file(scores(1.0), tmp_path / "steganography_2.safetensors")
    assert list(load_scores(tmp_path)) == [2]


def test_other_models_are_refused():
    with pytest.raises(InputError, match="embedded world only"):
        evaluate("some/model")
