"""Changes of an explanation keep what they say they keep; gaps are beyond those on written explanations."""

import pytest

from docs.studies.smollm2_steganography.score import CHANGES, changed
from docs.studies.smollm2_steganography.table import as_markdown
from tl_nla.faithfulness.short_claims import short_parts

TEXT = "Next: house, home. Recent: she went back to her old"


@pytest.mark.parametrize("how", CHANGES)
def test_changes_keep_the_words(how):
    found = changed(TEXT, how, 0)
    assert found != TEXT
    said = set(found.replace(",", "").replace(".", "").split())
    assert {"house", "home", "she", "went", "back", "to", "her", "old"} <= said
    if how == "older words shuffled":
        (following, recent), (_, before) = short_parts(found), short_parts(TEXT)
        assert following == ["house", "home"]
        assert recent[-1] == before[-1]
        assert sorted(recent) == sorted(before)
    if how in ("wording", "next words swapped"):
        assert found.endswith("she went back to her old")


def test_a_gap_is_beyond_that_on_written_words():
    readers = ("own", "stranger")
    errors = {f"{side}/{reader}": value for side, pair in (("said", (2.0, 6.0)), ("gold", (1.0, 2.0)))
              for reader, value in zip(readers, pair, strict=True)}  # fmt: skip
    errors |= {f"{side}, {how}/own": 4.0 for how in CHANGES for side in ("said", "gold")} | {"shuffled/own": 12.0}
    claims = dict.fromkeys(("last 1", "last 2", "next", "recent, any place"), 1.0)
    row = {"pair": "p", "deviation": 10.0, "errors": errors, "claims": claims, "words": 8}
    found = as_markdown([{**row, "document": name} for name in "ab"])
    # FVE .8 by its own reader and .4 by the stranger; the gap of .4 less that of .1 on written words.
    assert "| `p` | 0.80 [0.80, 0.80] |  | 0.40 [0.40, 0.40] | 0.30 [0.30, 0.30] |  | -0.20" in found
    assert "0.75 (0.67)" in found
