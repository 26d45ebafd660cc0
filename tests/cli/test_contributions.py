import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tl_nla.cli.main import main
from tl_nla.reports.packed import unpack

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
        (["--compare", "The drum was"], "give --html FILE or --logdir DIR as well"),
        (["--html", "/nowhere/at/all.html"], "there is no folder"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert main(["contributions", TEXT, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_two_texts_stand_in_one_html_file_and_one_run(capsys, tmp_path):
    file = tmp_path / "report.html"
    options = ["--compare", "Lily had a drum. The drum was", "--labels", "--no-skips", "--html", str(file)]
    assert main(["contributions", TEXT, *options, "--logdir", str(tmp_path / "runs")]) == 0
    assert str(file) in capsys.readouterr().out
    block = file.read_text("utf-8").split('id="reports">')[1].split("</script>")[0]
    prompts = {name: unpack(packed)["prompt"] for name, packed in json.loads(block).items()}
    assert prompts == {"prompt": f"<bos>{TEXT}", "compared": "<bos>Lily had a drum. The drum was"}
    [run] = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(run)).Reload()
    assert {"contributions/prompt", "contributions/compared"} <= set(events.Tags()["tensors"])


def test_an_estimate_loads_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tl_nla.model.targets.load_target", lambda *given: pytest.fail("loaded"))
    path = tmp_path / "estimate.json"
    assert main(["contributions", "--estimate", "64", "--json", str(path)]) == 0
    assert "estimate of report" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert found["total"] > found["weights"] > 0
    assert found["passes"] > 1
