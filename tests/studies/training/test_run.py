"""Suite training from made-up rows: what is stored comes back, and every number is the one it should be."""

import math
from types import SimpleNamespace

import pytest
import torch

from docs.studies.injection import run as injection_suite
from docs.studies.nla.score import NLARows
from docs.studies.training import run as training_suite
from docs.studies.training import score as training_rows
from docs.studies.training.score import BUDGETS, TrainingRows, load_training_rows, tokens_to
from tests.nla.test_generation import make
from tl_nla.benchmark.results import INJECTION_ARMS
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.metrics import squared_errors
from tl_nla.storyworld.claims import CLAIM_TYPES, Truth
from tl_nla.storyworld.facts import Facts

ROWS = 12


def made(seed, errors):
    scores = NLARows(seed, torch.arange(ROWS), torch.full((ROWS,), 2.0))
    found = TrainingRows(scores)
    for arm, error in errors.items():
        scores.errors[arm] = torch.full((ROWS,), error)
        scores.cosines[arm] = torch.full((ROWS,), 0.5)
        scores.extracted[arm] = torch.ones(ROWS)
        scores.claims[arm] = torch.ones(ROWS, len(CLAIM_TYPES), 4)
        # FVE climbs in equal steps of the budgets to what the whole explanation has
        climb = torch.linspace(0, 1, len(BUDGETS))
        found.prefix[arm] = (2 - climb * (2 - error)).expand(ROWS, -1)
        found.curve[arm] = torch.tensor([[step, 10.0 * step, -1, 0, 0, 40, 1] for step in range(1, 8)])
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
    found = training_suite.evaluate(figure=str(stored / "figure.svg"))
    assert (stored / "figure.svg").read_text().count("seed 1: sampled, as trained") == 1
    assert found.seeds == [0, 1]
    rows = {(row.arm, row.metric): row for row in found.rows}
    assert rows["warm_start", "fve"].value == pytest.approx(1 - (0.5 + 0.55) / 2)
    assert rows["explanation", "fve"].value == pytest.approx(0.9)
    assert rows["explanation", "extraction_rate"].value == 1
    assert rows["explanation", "claim_precision/recent"].value == 1
    assert ("warm_start", "tokens_to_fve_0.8") not in rows, "it never gets there"
    assert rows["explanation", "tokens_to_fve_0.8"].value == pytest.approx(tokens_at(0.8 / 0.9), rel=1e-3)
    assert found.definition["core_seconds/explanation"] == [70.0, 70.0]
    assert found.definition["steps/explanation"] == [7, 7]
    assert found.definition["fve_by_seed/warm_start"] == {0: 0.5, 1: 0.45}


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
    assert torch.equal(found.prefix["explanation"], expected.prefix["explanation"])
    assert found.scores.claims["explanation"].dtype == torch.uint8
    assert found.curve["explanation"][:, 0].tolist() == [1, 6, 7]


def test_another_command_adds_arms_of_the_same_states_only(stored):
    path = stored / "training_rows_0.safetensors"
    made(0, {"ordered": 0.3, "explanation": 0.4}).save(path)
    (found,) = load_training_rows([path])
    assert {arm: float(value[0]) for arm, value in found.scores.errors.items()} == {
        "warm_start": 1.0, "explanation": pytest.approx(0.4), "ordered": pytest.approx(0.3),
    }  # fmt: skip
    other = made(0, {"ordered": 0.3})
    other.scores.deviation *= 2
    with pytest.raises(InputError, match="scores of other states"):
        other.save(path)


def test_counts_that_do_not_fit_are_refused(tmp_path):
    rows = made(0, {"ordered": 0.3})
    rows.scores.claims["ordered"] *= 300
    with pytest.raises(InputError, match="300 claims"):
        rows.save(tmp_path / "training_rows_0.safetensors")


def test_scores_are_sums_over_stories_in_their_order(monkeypatch):
    """Of three stories with different numbers of states, against a pair that answers zeros."""
    document = torch.tensor([3, 3, 5, 9, 9, 9])
    acts = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    texts = ['Next: surely " a".', "", 'Next: likely " b".', "x", "y", "z"]
    extracted = torch.tensor([True, False, True, True, True, False])
    truths = [Truth(Facts(), "", (" a",))] * 6
    held = ExplainedStates(acts, texts, truths, texts, document, document)
    vectors = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    pair, found = make("llama"), SimpleNamespace(texts=texts, extracted=extracted)
    monkeypatch.setattr(pair, "generate", lambda acts, max_new_tokens: found)
    monkeypatch.setattr(pair, "reconstruct", lambda texts: vectors)
    columns = torch.arange(6.0)[:, None].expand(6, len(BUDGETS))
    monkeypatch.setattr(training_rows, "prefix_errors", lambda nla, acts: columns[: len(acts)])
    rows = TrainingRows.of(0, held, torch.zeros(8))
    rows.score("explanation", pair, held, prefix_documents=2)
    errors = squared_errors(vectors, acts, ~extracted)
    by_story = [errors[:2].sum(), errors[2], errors[3:].sum()]
    torch.testing.assert_close(rows.scores.errors["explanation"], torch.stack(by_story).float())
    assert rows.scores.deviation.tolist() == pytest.approx([16, 8, 24])
    assert rows.scores.extracted["explanation"].tolist() == pytest.approx([0.5, 1, 2 / 3])
    said, true = rows.scores.claims["explanation"][:, CLAIM_TYPES.index("next"), :2].unbind(1)
    assert (said.tolist(), true.tolist()) == ([1, 1, 0], [1, 0, 0])
    assert rows.prefix["explanation"][:, 0].tolist() == [1.0, 2.0]


def test_tokens_to_a_target():
    deviations = torch.ones(2)
    flat = torch.full((2, len(BUDGETS)), 0.1)
    assert tokens_to(0.8, flat, deviations) == BUDGETS[0]
    assert math.isnan(tokens_to(0.95, flat, deviations))


def test_suites_without_runs_say_which_command_makes_them(tmp_path, monkeypatch):
    for suite, name in ((training_suite, "training"), (injection_suite, "injection")):
        monkeypatch.setattr(suite, "STORED", tmp_path)
        with pytest.raises(InputError, match=rf"python -m docs\.studies\.{name}\.train"):
            suite.evaluate()
        with pytest.raises(InputError, match="use --model tiny"):
            suite.evaluate("gpt2")
    with pytest.raises(InputError, match=r"ends in \.svg"):
        training_suite.evaluate(figure=str(tmp_path / "figure"))


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
