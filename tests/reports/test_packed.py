"""Packed reports: what comes out is what went in, in a hundredth of the bytes."""

import json

import pytest

from tests.reports.tensorboard import reports
from tests.reports.tensorboard.big import big_report
from tests.reports.test_report_text import NASTY, make_report
from tl_nla.errors import InputError
from tl_nla.oracle.texts import Label, label_text
from tl_nla.reports import ContributionReport
from tl_nla.reports.packed import pack, unpack


@pytest.fixture(scope="module")
def large():
    return big_report(n_tokens=64, positions=4)


def test_a_report_comes_back(large):
    reports.assert_same(unpack(pack(large)), large)
    reports.assert_same(unpack(pack(reports.report())), reports.report())
    assert len(pack(large)["data"]) < len(json.dumps(large)) / 8


def test_hostile_texts_come_back_and_are_plain_in_the_file():
    hostile = reports.report(tokens=reports.HOSTILE, explanation="".join(reports.HOSTILE))
    packed = json.dumps(pack(hostile))
    assert packed.isascii()
    assert "<" not in packed
    reports.assert_same(unpack(json.loads(packed)), hostile)


def test_cells_that_are_not_there_stay_away():
    report = reports.report()
    gone = report["cells"].pop(3)
    found = unpack(pack(report))["cells"]
    assert len(found) == len(report["cells"])
    assert not any(all(cell[key] == gone[key] for key in ("layer", "head", "component", "position")) for cell in found)


def test_numbers_are_kept_to_four_digits_and_none_stays_none():
    report = reports.report()
    for cell, value in zip(
        report["cells"], (0.0, 1e-9, -123456.0, 0.12345678, float("nan"), float("inf")), strict=False
    ):
        cell["direct"] = value
    found = {(c["layer"], c["component"], c["head"], c["position"]): c["direct"] for c in unpack(pack(report))["cells"]}
    shown = [found[c["layer"], c["component"], c["head"], c["position"]] for c in report["cells"][:6]]
    assert shown[4:] == [None, None]
    assert shown[:4] == [0.0, 0.0, pytest.approx(-123456, rel=5e-4), pytest.approx(0.12345678, rel=5e-2)]


def test_where_room_is_short_the_strongest_keep_their_words_and_all_their_numbers(large):
    whole = len(pack(large)["data"])
    limit = whole * 7 // 10
    packed = pack(large, limit)
    assert len(packed["data"]) <= limit
    found = unpack(packed)["cells"]
    told = [cell for cell in found if cell["promoted"]]
    assert 0.2 < len(told) / len(found) < 0.95
    assert min(abs(c["direct"]) for c in found if c not in told) <= min(abs(c["direct"]) for c in told) + 0.5
    strongest = max(found, key=lambda cell: abs(cell["direct"]))
    assert strongest["explanation"]
    reports.assert_same(
        {"cells": [{**cell, "promoted": [], "suppressed": [], "sources": [], "source_positions": [], "explanation": ""}
                   for cell in found]},
        {"cells": [{**cell, "promoted": [], "suppressed": [], "sources": [], "source_positions": [], "explanation": ""}
                   for cell in large["cells"]]},
    )  # fmt: skip
    with pytest.raises(InputError, match="numbers of the report alone need"):
        pack(large, 1000)


@pytest.mark.parametrize("words", [["red", "none"], ["a b", '"'], [",", "x;y"], []])
def test_labels_of_the_oracle_are_made_anew_and_not_stored(words):
    """What the cell's lists say already takes no room, and comes back."""
    label = label_text(Label(tuple(words), ("blue",), tuple(dict.fromkeys(words))))
    read = {"tokens": [*words, "the", "end"]}
    said = reports.report(**read, explanation=label)
    other = reports.report(**read, explanation=label.replace("blue", "lead"))
    for report in (said, other):
        for cell in report["cells"]:
            places = list(range(len(words)))
            cell |= {"promoted": words, "suppressed": ["blue"], "source_positions": places,
                     "sources": [[word, 0.5] for word in words]}  # fmt: skip
        reports.assert_same(unpack(pack(report)), report)
    assert len(pack(said)["data"]) < len(pack(other)["data"])


def test_what_is_no_packed_report_is_refused():
    with pytest.raises(InputError, match="no packed report of this version"):
        unpack({"schema": 1})


@pytest.mark.parametrize("text", NASTY)
def test_no_text_leaves_its_block_of_the_html_file(text, tmp_path):
    report = make_report((text,))
    page = report.to_html(tmp_path / "report.html", {f"</script><b>{text}": report})
    assert (tmp_path / "report.html").read_text("utf-8") == page
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    block = page.split('id="reports">')[1].split("</script>")[0]
    assert set(json.loads(block)) == {"report", f"</script><b>{text}"}
    assert "<" not in block


def test_the_html_file_stays_below_its_limit(large):
    report = ContributionReport.from_dict(large)
    assert len(report.to_html(most_bytes=100_000).encode()) <= 100_000 < len(report.to_html().encode())
    with pytest.raises(InputError, match="numbers of the report alone need"):
        report.to_html(most_bytes=60_000)


def test_cards_are_kept():
    report = ContributionReport.from_dict({**reports.report(), "cards": {"blocks.1.attn.head.1": "Copies names."}})
    assert report.to_dict()["cards"] == {"blocks.1.attn.head.1": "Copies names."}
    with pytest.raises(InputError, match="'cards' must be texts"):
        ContributionReport.from_dict({**reports.report(), "cards": {"x": 1}})
