"""Growth of reports and labels: rows at every size, and a figure of them."""

import pytest

from tl_nla.benchmark import growth
from tl_nla.errors import InputError


def test_rows_of_every_size_and_a_figure(monkeypatch, tmp_path):
    small = growth.Size(tokens=8, layers=1, heads=2, vocabulary=600)
    monkeypatch.setattr(growth, "Size", lambda: small)
    monkeypatch.setattr(growth, "STEPS", {"tokens": (6, 24), "vocabulary": (1200,)})
    heard = []
    rows = list(growth.growth_rows(1, heard.append))
    assert heard == ["tokens: 6", "tokens: 24", "vocabulary: 1200"]
    assert len(rows) == 3 * len(growth.WAYS)
    peaks = {(row["varied"], row["size"], row["way"]): row["peak_mb"] for row in rows}
    # Logits of all tokens grow with both; labels of one position do not grow with the prompt.
    bare, labels = growth.WAYS["forward pass"], growth.WAYS["labels"]
    assert peaks["tokens", 24, bare] > 3 * peaks["tokens", 6, bare]
    assert peaks["tokens", 24, labels] == pytest.approx(peaks["tokens", 6, labels], rel=0.1)
    growth.draw_growth(rows, tmp_path / "growth.svg")
    assert (tmp_path / "growth.svg").read_text().count("<svg") == 1
    with pytest.raises(InputError, match="no rows to draw"):
        growth.draw_growth([], tmp_path / "growth.svg")
