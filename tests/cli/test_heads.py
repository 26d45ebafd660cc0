import pytest

from tests.zoo import save_target
from tl_nla.benchmark.results import read_results
from tl_nla.cli.main import main

SMALL = ["heads", "--documents", "8", "--length", "32", "--effects", "1"]


def test_the_table_the_page_and_the_files(capsys, tmp_path):
    files = ["--html", str(tmp_path / "a.html"), "--json", str(tmp_path / "a.json"), "--logdir", str(tmp_path / "run")]
    assert main([*SMALL, "--layers", "1", "2", "--sort", "fve", "--show", "5", *files]) == 0
    shown = capsys.readouterr().out
    assert "8 heads over 8 documents" in shown
    assert shown.count(" L1.H") + shown.count(" L2.H") == 5
    found = read_results(tmp_path / "a.json")
    assert found.suite == "heads"
    assert {(row.arm, row.metric) for row in found.rows} == {("gold", "fve"), ("shuffled", "fve"), ("state", "kl")}
    assert len(found.definition["cards"]) == 8
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["heads_1"]


def test_the_embedded_oracle_is_scored(tmp_path):
    from tl_nla.plugins import part

    file = tmp_path / "a.json"
    assert main([*SMALL, "--layers", "3", "--oracle", str(part("tiny", "oracle")), "--json", str(file)]) == 0
    arms = [row.arm for row in read_results(file).rows]
    assert arms.count("explanation") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "size"], "order of cards"), (["--layers", "9"], "0 to 3"), (["--texts", "/nowhere"], "no source"),
        (["--documents", "1"], "no whole number of 2"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(capsys, arguments, message):
    assert main([*SMALL, *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error


def test_a_model_without_a_shipped_oracle_is_told_so(capsys, tmp_path):
    save_target(tmp_path / "own")
    (tmp_path / "texts.txt").write_text("Tom found a kite.\n\nLily had a drum.\n")
    files = ["--model", str(tmp_path / "own"), "--texts", str(tmp_path / "texts.txt")]
    assert main([*SMALL, *files, "--oracle", "shipped"]) == 2
    assert "no oracle ships for --model" in capsys.readouterr().err


def test_a_model_without_texts_is_asked_for_them(capsys):
    assert main(["heads", "--model", "smollm2"]) == 2
    assert "give --texts" in capsys.readouterr().err
