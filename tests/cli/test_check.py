import json

from tl_nla.cli.main import main


def test_the_embedded_model_can_be_trusted(tmp_path, capsys):
    file = tmp_path / "check.json"
    assert main(["check", "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "direct attribution" in shown
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["trusted"] is True
    assert [row["capability"] for row in content["rows"]][:3] == ["states", "block sums", "heads"]


def test_bad_models_are_refused_in_one_line(tmp_path, capsys):
    assert main(["check", "--model", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["check", "--dtype", "int8"]) == 2
