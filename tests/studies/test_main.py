"""The command that runs studies."""

import pytest

from docs.studies.__main__ import main, studies
from tl_nla.benchmark.results import read_results


def test_every_page_of_numbers_has_its_study():
    assert {"nla", "heads", "layers", "spans", "questions", "contributions", "steering", "tiny"} <= set(studies())


def test_a_study_writes_its_results(tmp_path, capsys):
    assert main(["injection", "--json", str(tmp_path / "found.json"), "--markdown"]) == 0
    results = read_results(tmp_path / "found.json")
    assert results.suite == "injection"
    assert results.seeds == [0, 1, 2]
    shown = capsys.readouterr()
    assert "| arm" in shown.out
    assert shown.err.startswith("injection")  # what is going on is told at once, where no bar can be shown too


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give the name of a study"), (["haeds"], "nearest: heads"),
        (["heads", "--figure", "none/x.svg"], "folder"),
        (["heads", "--steps", "3"], "--steps"), (["tiny", "--parts", "everything"], "target"),
        (["injection", "--json", "none/x.json"], "none"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, says, capsys):
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
