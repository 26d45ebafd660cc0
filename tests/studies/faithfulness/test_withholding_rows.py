import pytest
import torch

from docs.studies.faithfulness.withholding_rows import (
    ARMS,
    load_rows,
    precision,
    recall,
    save_rows,
    score,
    total_fve,
    withholding_rows,
)
from tests.faithfulness.helpers import bag, explained
from tl_nla.data import ExplainedStates
from tl_nla.faithfulness.scoring import training_mean
from tl_nla.storyworld.claims import check, parse_claims


def scored(seed=0):
    written, truths, positions, read = explained(12)
    states = ExplainedStates(bag(written), written, truths, read, torch.arange(12) // 2, positions)
    lies = [text + " Lily is at the moon." for text in written]
    doubts = [text + " Lily is at the Where." for text in written]
    arms = {"as_they_were": lies, "withheld": doubts, "withheld_trained": written, "as_they_were_trained": lies}
    arms = {arm: (texts, bag) for arm, texts in arms.items()}
    return score(states, training_mean(states.acts), arms, seed), written, truths


def test_question_words_cost_no_precision_and_no_recall():
    rows, written, truths = scored()
    said = [len(parse_claims(text)) for text in written]
    assert all(check(claim, truth) == "true" for text, truth in zip(written, truths, strict=True)
               for claim in parse_claims(text))  # fmt: skip
    assert precision(rows, "as_they_were") == pytest.approx(sum(said) / (sum(said) + 12))
    assert precision(rows, "withheld") == recall(rows, "withheld") == recall(rows, "as_they_were") == 1
    assert total_fve(rows, "withheld_trained") == pytest.approx(1)
    assert total_fve(rows, "withheld") < 1


def test_stored_rows_of_several_seeds_are_joined(tmp_path):
    for seed in (0, 2):
        save_rows(scored(seed)[0], 0.4, 100 + seed, 7, tmp_path)
    parts, made = load_rows(tmp_path)
    assert [part.seed for part in parts] == [0, 2]
    assert "steps 102" in made["seed 2"]
    rows = {row.metric: row for row in withholding_rows(parts)}
    assert rows["fve/stored_withheld_trained"].value == pytest.approx(1, abs=1e-3)
    assert rows["fve/stored_withheld_trained"].n == 24
    gain = rows["claim_precision/stored_withheld_minus_as_they_were"]
    assert gain.value == pytest.approx(1 - rows["claim_precision/stored_as_they_were"].value)
    assert gain.ci_low <= gain.value <= gain.ci_high
    assert {f"fve/stored_{arm}" for arm in ARMS} <= set(rows)


def test_nothing_stored_gives_no_rows(tmp_path):
    assert load_rows(tmp_path) == ([], {})
    assert withholding_rows([]) == []
