"""The results contract is kept on the way out and on the way in, and its tables hold the numbers."""

import io
import json

import pytest


def row(**changes):
    from tl_nla.benchmark import Row

    given = {"arm": "explanation", "metric": "fve", "value": 0.9, "ci_low": 0.8, "ci_high": 0.95, "n": 100}
    return Row(**{**given, **changes})


def results(rows=None):
    from tl_nla.benchmark import Results

    rows = rows or [
        row(),
        row(arm="cat", value=0.5, ci_low=None, ci_high=None),
        row(metric="claim_precision/place", value=0.25, ci_low=0.2, ci_high=0.3),
        row(layer=1, head=2),
    ]
    return Results("nla", "tiny", [0, 1, 2], {"fve": "normalised"}, rows, 1.5)


def test_round_trip(tmp_path):
    from tl_nla.benchmark import read_results

    results().write(tmp_path / "x.json")
    assert read_results(tmp_path / "x.json") == results()
    found = json.loads((tmp_path / "x.json").read_text())
    assert set(found) == {"suite", "model", "seeds", "definition", "rows", "seconds", "versions"}
    assert set(found["rows"][0]) == {"arm", "metric", "value", "ci_low", "ci_high", "n", "split"}
    assert (found["rows"][3]["layer"], found["rows"][3]["head"]) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arm": "explanaton"}, "nearest: explanation"),
        ({"metric": "fvee"}, "nearest: fve"),
        ({"metric": "cosine/x"}, "unknown metric"),
        ({"split": "held"}, "unknown split"),
        ({"value": float("nan")}, "finite"),
        ({"ci_low": None}, "one end"),
        ({"ci_low": 0.99}, "down to"),
        ({"n": -1}, "negative"),
    ],
)
def test_refuses_rows_outside_the_contract(changes, says):
    from tl_nla.errors import InputError

    with pytest.raises(InputError, match=says):
        row(**changes)


def test_refuses_an_unknown_suite_and_doubled_rows():
    from tl_nla.benchmark import Results
    from tl_nla.errors import InputError

    with pytest.raises(InputError, match="unknown suite"):
        Results("nlaa", "tiny", [0], {}, [], 0.0)
    with pytest.raises(InputError, match="two rows"):
        results([row(), row(value=0.85)])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{"arm": 1}]}', '{"rows": 3}'])
def test_refuses_damaged_files(tmp_path, text):
    from tl_nla.benchmark import read_results
    from tl_nla.errors import InputError

    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="is no results file"):
        read_results(tmp_path / "x.json")
    with pytest.raises(InputError, match="no results file"):
        read_results(tmp_path / "y.json")


@pytest.mark.parametrize("content", [{"x": float("nan")}, {"x": object()}])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, content):
    from tl_nla.errors import InputError
    from tl_nla.whole_file import write_json

    write_json({"old": 1}, tmp_path / "x.json")
    with pytest.raises(InputError, match="cannot write"):
        write_json(content, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_row_of_an_interval():
    from tl_nla.benchmark import Interval, Row

    assert Row.of("cat", "fve", Interval(0.5, 0.4, 0.6, 9), layer=3) == row(
        arm="cat", value=0.5, ci_low=0.4, ci_high=0.6, n=9, layer=3
    )
    assert Row.of("cat", "fve", Interval(0.5, float("nan"), float("nan"), 9)).ci_low is None


def test_tables_hold_the_numbers():
    from rich.console import Console

    from tl_nla.benchmark.tables import to_markdown, to_table

    text = to_markdown(results())
    lines = text.splitlines()
    assert lines[0] == "| layer | head | arm | fve | claim_precision/place |"
    assert "| all | all | explanation | 0.900 [0.800, 0.950] | 0.250 [0.200, 0.300] |" in lines
    assert "| all | all | cat | 0.500 |  |" in lines
    assert {line.count("|") for line in lines} == {6}
    screen = Console(file=io.StringIO(), width=160)
    screen.print(to_table(results()))
    assert "0.900 [0.800, 0.950]" in screen.file.getvalue()


@pytest.mark.parametrize("width", [20, 60, 70])
def test_a_narrow_terminal_cuts_no_number(width):
    from rich.console import Console

    from tl_nla.benchmark.tables import to_table

    wide, narrow = (Console(file=io.StringIO(), width=160) for _ in range(2))
    wide.print(to_table(results()))
    narrow.print(to_table(results(), width))
    numbers = {f"{row.value:.3f}" for row in results().rows}
    assert all(number in narrow.file.getvalue() for number in numbers)
    assert wide.file.getvalue().count("arm") < narrow.file.getvalue().count("arm")
    if width > 50:
        assert max(len(line.rstrip()) for line in narrow.file.getvalue().splitlines()) <= width


def test_more_metrics_than_arms_go_down():
    from tl_nla.benchmark.results import Results, Row
    from tl_nla.benchmark.tables import to_markdown

    kinds = ("who", "where", "what")
    rows = [Row(arm, f"claim_precision/{kind}", 0.5, 0.4, 0.6, 9) for arm in ("gold", "cat") for kind in kinds]
    lines = to_markdown(Results("nla", "tiny", [0], {}, rows, 1.0)).splitlines()
    assert lines[0] == "| metric | gold | cat |"
    assert lines[2] == "| claim_precision/who | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] |"
    assert len(lines) == 5


def test_the_version_that_runs_is_recorded(monkeypatch):
    import tl_nla
    from tl_nla.benchmark.results import versions

    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")  # of an old installation
    found = versions()
    assert found["tl-nla"] == tl_nla.__version__
    assert found["torch"] == "0.0.1"
