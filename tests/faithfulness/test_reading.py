"""Retention, cross-reading, order and marginals: all against readers whose answer is known."""

import pytest
import torch

from docs.studies.tiny.tokenizer import build_tokenizer
from tests.faithfulness.helpers import SIZE, bag, explained, ordered, word_vector
from tl_nla.errors import InputError
from tl_nla.faithfulness.clauses import split_clauses
from tl_nla.faithfulness.codes import cross_errors, cross_reconstructor_gap
from tl_nla.faithfulness.marginal import position_matched_excess, split_tokens, token_class, token_marginals
from tl_nla.faithfulness.order import order_curves, prefix_curve
from tl_nla.faithfulness.retention import measure_retention
from tl_nla.faithfulness.scoring import Scorer, by_document, training_mean
from tl_nla.metrics import fve

TEXTS = explained(10)[0]


def scorer(read=bag, texts=TEXTS):
    acts = read(texts)
    return Scorer(read, acts, training_mean(acts))


def test_error_is_one_minus_fve():
    own = scorer()
    words = [text[:40] for text in TEXTS]
    assert own.fve(words) == pytest.approx(float(fve(bag(words), own.acts, own.mean)))
    assert own.fve(TEXTS) == pytest.approx(1)


def test_rows_choose_the_states():
    own = scorer()
    rows = torch.tensor([3, 3, 0])
    torch.testing.assert_close(own.errors([TEXTS[3], TEXTS[0], TEXTS[0]], rows)[[0, 2]], torch.zeros(2).double())
    assert own.errors([], torch.tensor([], dtype=torch.long)).shape == (0,)
    with pytest.raises(InputError, match="one text a state"):
        own.errors(["a"])


def test_states_must_vary():
    with pytest.raises(InputError, match="do not differ"):
        Scorer(bag, torch.ones(3, SIZE), torch.ones(SIZE))


def test_documents_are_averaged():
    values = by_document(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([7, 7, 2]))
    assert values.tolist() == [5.0, 2.0]


def test_order_is_kept_by_a_bag_and_lost_by_others():
    kept = measure_retention(scorer(), TEXTS)
    assert kept["clause_order"].fve == pytest.approx(1)
    assert kept["word_order"].fve == pytest.approx(1)
    assert kept["paraphrase"].fve < 0.95
    assert kept["paraphrase"].claims == kept["clause_order"].claims == 1
    assert kept["quotes_removed"].claims < 0.8
    assert measure_retention(scorer(ordered), TEXTS)["clause_order"].fve < 0.9


def test_only_its_own_reader_understands_a_code():
    def coded(texts):
        return bag([text.swapcase() for text in texts])

    own = scorer(coded)
    errors = cross_errors(own, {"av": TEXTS}, {"own": coded, "other": bag})
    assert errors["av", "own"].mean() == pytest.approx(0)
    assert cross_reconstructor_gap(errors, "av", "own").mean() > 0.5
    honest = cross_errors(scorer(), {"av": TEXTS}, {"own": bag, "other": bag})
    assert cross_reconstructor_gap(honest, "av", "own").abs().max() == 0
    with pytest.raises(InputError, match="other reconstructor"):
        cross_reconstructor_gap({("av", "own"): errors["av", "own"]}, "av", "own")


def test_prefix_curve_ends_at_the_whole():
    own = scorer(ordered)
    clauses = [[clause.text for clause in split_clauses(text)] for text in TEXTS]
    depth = max(map(len, clauses))
    curve = prefix_curve(own, clauses, depth)
    torch.testing.assert_close(curve[:, -1], own.errors([" ".join(c) for c in clauses]))
    torch.testing.assert_close(curve[:, 0], own.errors([c[0] for c in clauses]))


def test_greedy_is_best_and_optimality_is_of_one():
    texts = ["One two three. Four five. Six.", "Seven. Eight nine ten eleven.", "Twelve. Six. Two three."]
    own = scorer(ordered, texts)
    curves = order_curves(own, texts)
    assert (curves.greedy[:, 0] <= curves.model[:, 0] + 1e-9).all()
    assert (curves.greedy[:, 0] <= curves.reversed[:, 0] + 1e-9).all()
    first = [min(own.errors([c.text], torch.tensor([r])).item() for c in split_clauses(t)) for r, t in enumerate(texts)]
    torch.testing.assert_close(curves.greedy[:, 0], torch.tensor(first, dtype=torch.float64))
    assert len(curves.optimality()) == 2
    best = order_curves(scorer(ordered), TEXTS)
    assert all(value <= 1.2 for value in best.optimality() if value == value)


def test_marginals_sum_to_the_fve():
    own, tokenizer = scorer(), build_tokenizer()
    words = [text[:60] for text in TEXTS]
    marginals = token_marginals(own, words, tokenizer)
    assert sum(m.marginal for m in marginals) / len(words) == pytest.approx(own.fve(words))
    assert "".join(m.text for m in marginals if m.row == 0) == words[0]
    table = position_matched_excess(marginals)
    assert sum(share for _, share, _ in table.values()) == pytest.approx(1)
    assert sum(count * excess for count, _, excess in table.values()) == pytest.approx(0, abs=1e-9)


def test_excess_finds_the_class_that_carries():
    def quoted_only(texts):
        return torch.stack([sum((word_vector(c) for c in t if c in "XYZQ"), 0.1 * word_vector("")) for t in texts])

    texts = ['"X" and the "Y" or', '"Z" to the "X" or', '"Y" in the "Q" or']
    table = position_matched_excess(token_marginals(scorer(quoted_only, texts), texts, build_tokenizer()))
    assert max(table, key=lambda name: table[name][2]) == "in_quote"
    assert table["in_quote"][1] > 0.9


def test_token_classes():
    text = 'Words "red hat" the end.\nNew'
    spans = split_tokens(text, build_tokenizer())
    assert "".join(text[a:b] for a, b in spans) == text
    place = text.index
    assert token_class(text, place("red"), place("red") + 3) == "in_quote"
    assert token_class(text, place(" the"), place(" the") + 4) == "after_quote"
    assert token_class(text, place(" end"), place(" end") + 4) == "word"
    assert token_class(text, place("."), place(".") + 1) == "mark"
    assert token_class(text, place("\n"), place("\n") + 1) == "newline"
    assert token_class(text, place("New"), len(text)) == "first"
    assert token_class(text, place("nd."), place("nd.") + 2) == "subword"
    assert token_class("is at the", 5, 9) == "stopword"
