"""Measures of a pair against readers whose answer is known, and codes that were put in by hand."""

import pytest
import torch

from docs.studies.steganography.steganographer import Steganographer
from tests.faithfulness.helpers import bag, explained
from tl_nla.data import ExplainedStates
from tl_nla.faithfulness.codes import refitted_errors
from tl_nla.faithfulness.perturbations import paraphrase
from tl_nla.faithfulness.scoring import Scorer, training_mean
from tl_nla.faithfulness.trust import PairWords, average, pair_terms
from tl_nla.metrics import fve


def words(texts=None, extracted=None, rows=12, **settings):
    written, truths, positions, read = explained(rows)
    states = ExplainedStates(bag(written), written, truths, read, torch.arange(rows) // 2, positions)
    scorer = Scorer(bag, states.acts, training_mean(states.acts))
    extracted = torch.ones(rows, dtype=torch.bool) if extracted is None else extracted
    return PairWords(states, list(texts or written), extracted, scorer, settings.pop("references", {}), **settings)


def test_written_words_have_no_excess():
    found = average(pair_terms(words(references={"same": bag, "nothing": lambda texts: bag([""] * len(texts))})))
    assert found["fve"] == found["fve_written"] == pytest.approx(1)
    assert found["claim_precision"] == found["claim_recall"] == found["extraction_rate"] == 1
    assert found["paraphrase_excess"] == found["cross_reconstructor_gap_excess/nothing"] == 0
    assert found["cross_reconstructor_gap/same"] == 0
    assert found["cross_reconstructor_gap/nothing"] > 0.5
    assert found["retention"] == found["retention_written"] < 0.95
    assert "legibility" not in found


def test_words_that_only_the_own_reader_takes_to_mean_something_have_a_gap():
    written = words().states.explanations
    coded = [f"Zub {row}." for row in range(len(written))]
    book = dict(zip(coded, written, strict=True))

    def own(texts):
        return bag([book.get(text, text) for text in texts])

    case = words(coded, references={"plain": bag})
    case = PairWords(
        case.states, coded, case.extracted, Scorer(own, case.states.acts, case.scorer.mean), {"plain": bag}
    )
    found = average(pair_terms(case))
    assert found["fve"] == pytest.approx(1)
    assert found["cross_reconstructor_gap_written/plain"] == pytest.approx(0)
    assert found["cross_reconstructor_gap_excess/plain"] > 0.5
    assert "claim_precision" not in found  # nothing was claimed


def test_failed_rows_count_as_in_every_fve():
    extracted = torch.arange(12) > 3
    texts = [text if ok else "" for text, ok in zip(words().texts, extracted, strict=True)]
    case = words(texts, extracted)
    found = average(pair_terms(case))
    assert found["fve"] == pytest.approx(float(fve(bag(texts), case.states.acts, case.scorer.mean, ~extracted)))
    assert found["extraction_rate"] == pytest.approx(8 / 12)
    assert found["claim_recall"] < 0.8


def test_unknown_truth_is_not_guessed():
    assert not [name for name in pair_terms(words(truths_known=False)) if name.startswith("claim")]


def test_a_code_is_found_where_it_was_put():
    """States that written words tell nothing about: what refitted readers gain is the planted message."""
    rows, half = 360, 300
    written = [paraphrase(text, 1) for text in explained(rows)[0]]
    acts = torch.randn(rows, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(0.5, -0.5, 64)
    scorer = Scorer(bag, acts[half:], training_mean(acts[:half]))
    gains = {}
    for kind in ("style", "cover"):
        writer = Steganographer.fit(kind, acts[:half])
        hidden = writer.write(writer.message(acts), written)
        errors = refitted_errors(scorer, hidden[half:], hidden[:half], written[:half], acts[:half])
        plain, claims, style = (float(error.mean()) for error in errors.values())
        gains[kind] = (plain - claims, claims - style)
    assert gains["style"][1] > 0.1 > abs(gains["style"][0])
    assert gains["cover"][0] > 0.1 > abs(gains["cover"][1])


def test_words_in_no_known_form_tell_the_refitted_readers_nothing():
    written = explained(40)[0]
    acts = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    scorer = Scorer(bag, acts, training_mean(acts))
    errors = refitted_errors(scorer, ["Zub."] * 40, ["Zub."] * 40, written, acts)
    torch.testing.assert_close(errors["refitted_style"], errors["plain"])
