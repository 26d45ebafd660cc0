"""Suite training from made-up rows: what is stored comes back, and every number is the one it should be."""

import math

import pytest
import torch

from tl_nla.errors import InputError
from tl_nla.evaluation import injection_suite, training_suite
from tl_nla.evaluation.nla_rows import NLARows
from tl_nla.evaluation.results import INJECTION_ARMS
from tl_nla.evaluation.training_rows import BUDGETS, TrainingRows, load_training_rows, tokens_to
from tl_nla.storyworld.claims import CLAIM_TYPES

ROWS = 12


def made(seed, errors):
    document = torch.arange(ROWS) // 3
    scores = NLARows(seed, document, torch.full((ROWS,), 2.0))
    found = TrainingRows(scores)
    for arm, error in errors.items():
        scores.errors[arm] = torch.full((ROWS,), error)
        scores.cosines[arm] = torch.full((ROWS,), 0.5)
        scores.extracted[arm] = torch.ones(ROWS)
        scores.claims[arm] = torch.ones(ROWS, len(CLAIM_TYPES), 4)
        # FVE climbs in equal steps of the budgets to what the whole explanation has
        climb = torch.linspace(0, 1, len(BUDGETS))
        found.prefix[arm] = (2 - climb * (2 - error)).expand(ROWS, -1)
        found.curve[arm] = torch.tensor([[1.0, -1, 0, 0, 40, 1], [60.0, -0.5, 0.4, 0.1, 38, 1]])
    return found


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(training_suite, "STORED", tmp_path)
    monkeypatch.setattr(training_suite, "STORED_ROWS", tmp_path / "none")
    for seed in (0, 1):
        path = tmp_path / f"training_rows_{seed}.safetensors"
        made(seed, {"warm_start": 1.0 + 0.1 * seed, "explanation": 0.2}).save(path)
    return tmp_path


def test_what_is_stored_is_reported(stored):
    found = training_suite.evaluate()
    assert found.seeds == [0, 1]
    rows = {(row.arm, row.metric): row for row in found.rows}
    assert rows["warm_start", "fve"].value == pytest.approx(1 - (0.5 + 0.55) / 2)
    assert rows["explanation", "fve"].value == pytest.approx(0.9)
    assert rows["explanation", "extraction_rate"].value == 1
    assert rows["explanation", "claim_precision/recent"].value == 1
    assert ("warm_start", "tokens_to_fve_0.8") not in rows, "it never gets there"
    assert rows["explanation", "tokens_to_fve_0.8"].value == pytest.approx(tokens_at(0.8 / 0.9), rel=1e-3)
    assert found.definition["core_seconds/explanation"] == [60.0, 60.0]
    assert found.definition["steps/explanation"] == [2, 2]


def tokens_at(share):
    place = share * (len(BUDGETS) - 1)
    low = math.floor(place)
    return BUDGETS[low] + (place - low) * (BUDGETS[low + 1] - BUDGETS[low])


def test_rows_come_back_as_they_were_and_small(stored):
    path = stored / "training_rows_1.safetensors"
    (found,) = load_training_rows([path])
    expected = made(1, {"warm_start": 1.1, "explanation": 0.2})
    assert found.scores.seed == 1
    for kind in ("errors", "extracted", "claims"):
        for arm, value in getattr(expected.scores, kind).items():
            assert torch.equal(getattr(found.scores, kind)[arm].float(), value.float())
    torch.testing.assert_close(found.prefix["explanation"].float(), expected.prefix["explanation"], rtol=1e-3, atol=0)
    assert found.scores.claims["explanation"].dtype == torch.int8


def test_tokens_to_a_target():
    deviations = torch.ones(2)
    flat = torch.full((2, len(BUDGETS)), 0.1)
    assert tokens_to(0.8, flat, deviations) == BUDGETS[0]
    assert math.isnan(tokens_to(0.95, flat, deviations))


def test_suites_without_runs_say_which_command_makes_them(tmp_path, monkeypatch):
    for suite, name in ((training_suite, "studies"), (injection_suite, "injection_study")):
        monkeypatch.setattr(suite, "STORED", tmp_path)
        with pytest.raises(InputError, match=f"lightning_modules.{name}"):
            suite.evaluate()
        with pytest.raises(InputError, match="use --model tiny"):
            suite.evaluate("gpt2")


def test_injection_rows_are_averaged_over_seeds(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setattr(injection_suite, "STORED", tmp_path)
    document = (torch.arange(ROWS) // 3).int()
    for seed, error in ((0, 0.2), (2, 0.6)):
        arms = {f"errors/{arm}": torch.full((ROWS,), error) for arm in INJECTION_ARMS[:2]}
        arms |= {f"extracted/{arm}": torch.ones(ROWS, dtype=torch.int8) for arm in INJECTION_ARMS[:2]}
        known = {"document": document, "deviation": torch.full((ROWS,), 2.0), "steps": torch.tensor(7)}
        save_file(known | arms, tmp_path / f"injection_rows_{seed}.safetensors")
    found = injection_suite.evaluate()
    assert [row.arm for row in found.rows if row.metric == "fve"] == list(INJECTION_ARMS[:2])
    assert found.rows[0].value == pytest.approx(0.8)
    assert found.definition["steps"] == {0: 7, 2: 7}
