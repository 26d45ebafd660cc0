import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tl_nla.cli.main import main

TEXT = "Tom went to the harbor. Tom found a kite painted red. They sang a song together. The kite was"


def test_the_table_shows_numbers_and_words(capsys, tmp_path):
    file = tmp_path / "report.json"
    assert main(["contributions", TEXT, "--labels", "--json", str(file), "--logdir", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "direct adds up" in shown
    assert "promotes" in shown
    assert "tensorboard --logdir" in shown
    report = json.loads(file.read_text())
    assert report["n_layers"] == 4
    assert report["total"]["logit"][0] == pytest.approx(report["total"]["sum_of_parts"][0], abs=1e-3)
    [run] = (tmp_path / "run").iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    assert "contributions/prompt/table/0/text_summary" in events.Tags()["tensors"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "two words"], "must be one token"),
        (["--quantity", "loggit"], "invalid choice"),
        (["--logdir", __file__], "is no folder"),
        (["--oracle", "/nowhere/at/all"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert main(["contributions", TEXT, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_estimate_loads_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tl_nla.model.targets.load_target", lambda *given: pytest.fail("loaded"))
    path = tmp_path / "estimate.json"
    assert main(["contributions", "--estimate", "64", "--json", str(path)]) == 0
    assert "estimate of report" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert found["total"] > found["weights"] > 0
    assert found["passes"] > 1
