"""``tl-nla steer``: one run side by side, several strengths in one table."""

import json

import pytest

from tl_nla.cli.main import main

STORY = "Tom found a kite painted red. Tom felt happy. The kite was"


def test_several_strengths(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["steer", STORY, "--rewrite", "red->yellow", "--tokens", "4", "--json", "steer.json"]
    assert main([*arguments, "--strength", "0", "1"]) == 0
    assert "steered, 0" in capsys.readouterr().out
    none, full = json.loads((tmp_path / "steer.json").read_text())["sweep"]
    assert (none["strength"], full["strength"]) == (0, 1)
    assert none["steered"] == none["unsteered"] == full["unsteered"]
    assert full["steered"].startswith(" yellow")
    assert main(arguments) == 0
    assert json.loads((tmp_path / "steer.json").read_text())["steered"] == full["steered"]
    assert "steered, 1" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--where", "nowhere"], "choose from"), (["--mode", "nope"], "choose from"),
        (["--where", "generated", "--tokens", "1"], "--tokens 2 or more"),
    ],
)  # fmt: skip
def test_places_that_cannot_be_steered_are_refused_before_anything_is_loaded(wrong, message, capsys):
    """A single generated token is never run through the model."""
    assert main(["steer", STORY, "--rewrite", "red->yellow", "--model", "no-such-model", *wrong]) == 2
    assert message in capsys.readouterr().err
