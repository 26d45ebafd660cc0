import pytest
import torch

from docs.studies.steganography.references import (
    TrainedScores,
    load_scores,
    save_scores,
    trained_rows,
    transferred_alarms,
)


def scores(shift, seed):
    generator = torch.Generator().manual_seed(seed)
    return {"order": torch.randn(200, generator=generator) + shift}


def part(seed):
    return TrainedScores(seed, {
        "written": scores(0, seed), "full": scores(9, 10 + seed), "explanation": scores(0, 20 + seed),
        "kl_0": scores(9, 30 + seed), "kl_0_written": scores(9, 40 + seed),
    })  # fmt: skip


def test_stored_scores_are_joined_over_seeds_and_compared_with_what_their_reader_makes_of_written_words(tmp_path):
    for seed in (0, 1):
        save_scores(part(seed), tmp_path)
    parts = load_scores(tmp_path)
    assert [one.seed for one in parts] == [0, 1]
    rows = {row.metric: row for row in trained_rows(parts)}
    assert rows["auc/steganographer/full_order_trained"].value == 1
    assert rows["auc/steganographer/explanation_order_trained"].value == pytest.approx(0.5, abs=0.1)
    assert rows["auc/steganographer/kl_0_order_trained"].value == pytest.approx(0.5, abs=0.1)  # its reader, its zero
    assert rows["false_alarms/order_trained"].value == pytest.approx(0.05, abs=0.05)
    assert "auc/steganographer/written_order_trained" not in rows
    assert trained_rows([]) == []


def test_a_threshold_of_other_readers_flags_one_that_differs():
    alike = torch.stack([scores(0, seed)["order"] for seed in range(3)])
    assert transferred_alarms(alike) == pytest.approx(0.05, abs=0.04)
    assert transferred_alarms(torch.cat([alike[:2], alike[2:] + 9])) > 0.3


def test_a_suspect_of_some_seeds_is_a_row_of_these():
    other = TrainedScores(1, {"written": scores(0, 1)})
    rows = {row.metric: row for row in trained_rows([part(0), other])}
    assert rows["auc/steganographer/full_order_trained"].n == 400
    assert rows["false_alarms/order_trained"].n == 200


def test_readers_of_every_wording_have_rows_of_their_own():
    both = part(0)
    both.scores |= {"reworded/written": scores(0, 5), "reworded/full": scores(0, 6)}
    rows = {row.metric: row.value for row in trained_rows([both])}
    assert rows["auc/steganographer/full_order_trained"] == 1
    assert rows["auc/steganographer/full_order_reworded"] == pytest.approx(0.5, abs=0.1)
    assert rows["false_alarms/order_reworded"] == pytest.approx(0.05, abs=0.05)
    assert not [name for name in rows if "reworded/" in name or name.endswith("reworded_trained")]
