from pathlib import Path

import pytest

from docs.studies import scored
from docs.studies.lines import read_lines, write_lines
from tl_nla.errors import InputError


def test_rows_are_scored_then_shown_and_shown_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scored, "load_smollm2", lambda dtype: f"SmolLM2 in {dtype}")
    given = ["--rows", str(tmp_path / "rows.jsonl")]

    def score(smol, args):
        write_lines(args.rows, [{"by": smol, "texts": str(args.corpus)}])

    parser = scored.study_parser("smollm2_layers")
    with pytest.raises(InputError, match="no stored rows"):
        scored.run_study(parser.parse_args([*given, "--table"]), score, str)
    scored.run_study(parser.parse_args([*given, "--corpus", "mine"]), score, str)
    rows = "[{'by': 'SmolLM2 in bfloat16', 'texts': 'mine'}]"
    assert capsys.readouterr().out == rows
    scored.run_study(parser.parse_args([*given, "--table"]), lambda smol, args: pytest.fail("scored again"), str)
    assert capsys.readouterr().out == rows


def test_rows_are_those_of_the_study():
    args = scored.study_parser("smollm2_steering", corpus=False).parse_args([])
    assert args.rows == Path(scored.__file__).parent / "smollm2_steering" / "rows" / "rows.jsonl"
    assert args.rows.is_file()
    assert not hasattr(args, "corpus")


def test_a_seed_replaces_its_own_rows_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert scored.rows_of_seed(path, 1) == []
    scored.keep_seed(path, 1, [{"score": 1}, {"score": 2}])
    scored.keep_seed(path, 0, [{"score": 3}])
    scored.keep_seed(path, 1, [{"score": 4}])
    assert read_lines(path) == [{"seed": 0, "score": 3}, {"seed": 1, "score": 4}]
    assert scored.rows_of_seed(path, 1) == [{"seed": 1, "score": 4}]


def test_numbers_are_shown_seed_by_seed():
    rows = [{"seed": 0, "score": 1.0}, {"seed": 2, "score": 0.5}, {"seed": 2, "score": 0.0}]
    found = scored.by_seed(rows, {"mean": lambda own: sum(row["score"] for row in own) / len(own)})
    assert "| number | seed 0 | seed 2 | largest difference |" in found
    assert "| mean | 1.00 | 0.25 | 0.75 |" in found
    assert scored.by_seed(rows[:1], {"mean": len}) == ""
