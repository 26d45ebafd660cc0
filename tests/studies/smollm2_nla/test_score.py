"""Claims by hand, and that rows of one document are never compared with each other."""

import json

import pytest

from docs.studies.smollm2_nla.score import another_document, claims
from docs.studies.smollm2_nla.table import as_markdown

GOLD = "Next: home, bed. Recent: back to her old"


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (GOLD, {"last 1", "last 2", "last 3", "last 4", "next", "recent, any place"}),
        ("Next: bed. Recent: old", {"last 1", "next", "recent, any place"}),
        ("Next: car, home. Recent: went to his old", {"last 1", "last 3"}),
        ("nothing", set()),
    ],
)
def test_claims(said, right):
    found = claims(said, GOLD)
    assert {name for name, value in found.items() if value == 1} == right
    assert "last 5" not in found, "the text has four words"


def test_the_share_of_recent_words_that_are_true():
    assert claims("Next: x. Recent: went to his old", GOLD)["recent, any place"] == 0.5


def test_rows_of_other_documents():
    names = ["a", "a", "b", "b", "c"]
    assert all(names[row] != names[other] for row, other in enumerate(another_document(names)))


def test_the_table_has_what_the_rows_say():
    errors = [{"explanation": 1.0, "best": 0.4, "gold": 0.5}, {"explanation": 2.0, "best": 0.4, "gold": 0.5}]
    beams = "Next: home. Recent: old"
    rows = [{"document": f"d{n}", "kind": "tales", "deviation": 4.0, "errors": errors[n], "claims": claims(GOLD, GOLD),
             "best_claims": claims("Next: car. Recent: x", GOLD), "beams_claims": claims(beams, GOLD),
             "said": GOLD, "best": GOLD, "beams": beams, "gold": GOLD,
             "sure": "Next: …, bed. Recent: her … dog", "beams, sure": beams, "best, sure": GOLD}
            for n in range(2)]  # fmt: skip
    found = as_markdown(json.loads(json.dumps(rows)))
    assert "| explanation | 0.62 [0.50, 0.75] | 0.62 |" in found
    assert "| mean | 0.00 [0.00, 0.00] | 0.00 |" in found
    assert "| best of 8 | 0.90 [0.90, 0.90] | 0.90 |" in found
    assert "| last 1 | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] | 0.00 [0.00, 0.00] | 1.00 | 2 |" in found
    assert "| beam search | 2.0 | 1.00 [1.00, 1.00] |" in found
    assert "| explanation | 6.0 | 1.00 [1.00, 1.00] | 1.00" in found
    # Of a sure explanation: bed is true, dog is at its place and false, her is among the recent words.
    assert "| explanation, sure words | 3.0 | 0.67 [0.67, 0.67] | 0.00 [0.00, 0.00] | 0.50 [0.50, 0.50] | 1.00" in found
