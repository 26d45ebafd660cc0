"""Bad input ends in one clear line, exit code 2, no traceback, nothing half-written."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tl_nla.cli.main import main
from tl_nla.storyworld.tiny import WEIGHTS

SENTENCE = "Tom went to the park."


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Runs the command line in an empty folder and gives its one line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        before = sorted(path.name for path in tmp_path.rglob("*"))
        assert main([str(argument) for argument in arguments]) == 2
        printed = capsys.readouterr()
        *progress, said = printed.err.splitlines()
        assert said.startswith("tl-nla: ")
        assert progress in ([], ["loading"])
        assert "Traceback" not in printed.err
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
        return printed.err

    return run


@pytest.fixture
def pair(tmp_path):
    for part in ("av", "ar"):
        shutil.copytree(WEIGHTS / part, tmp_path / part)
    return tmp_path / "av", tmp_path / "ar"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["demos"], "demo"),
        (["demo", ""], "empty"),
        (["demo", SENTENCE * 200], "context"),
        (["demo", SENTENCE, "--model", "no/such-model"], "NLA"),
        (["demo", SENTENCE, "--json", "no/folder.json"], "folder"),
        (["demo", SENTENCE, "--last", "many"], "--last"),
        (["evaluate", "haeds"], "heads"),
        (["evaluate", "nla"], "python -m docs.studies nla"),
        (["evaluate", "heads"], "python -m docs.studies heads"),
        (["evaluate", "heads", "--steps", "0"], "'0' is no whole number of 1 or more"),
        (["bench", "--runs", "0"], "--runs"),
        (["fit", "-c", "none.yaml"], "none.yaml"),
    ],
)
def test_arguments(arguments, says, refused):
    assert says in refused(*arguments)


def test_injection_character_in_the_text(refused):
    # The text is the target's, not the verbalizer's: any Unicode text may be explained.
    assert main(["demo", "Tom saw ㈎.", "--last", "1"]) == 0


def test_a_text_behind_the_pair_is_named(refused, pair):
    assert "a text stands before --nla" in refused("demo", "--nla", *pair, SENTENCE)


def test_missing_model_folder(refused, pair):
    assert "nowhere" in refused("demo", SENTENCE, "--model", "nowhere", "--nla", *pair)


def test_truncated_weights(refused, pair):
    file = pair[0] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    assert "model.safetensors" in refused("demo", SENTENCE, "--nla", *pair)


def test_missing_weights(refused, pair):
    (pair[1] / "value_head.safetensors").unlink()
    assert "value_head" in refused("demo", SENTENCE, "--nla", *pair)


def test_unknown_key_in_the_sidecar(refused, pair):
    with (pair[0] / "nla_meta.yaml").open("a") as file:
        file.write("colour_of_the_bike_shed: red\n")
    assert "colour_of_the_bike_shed" in refused("demo", SENTENCE, "--nla", *pair)


def test_pickle_in_the_place_of_safetensors(refused, pair):
    torch.save({"weight": torch.eye(128)}, pair[1] / "value_head.safetensors")
    assert "value_head.safetensors" in refused("demo", SENTENCE, "--nla", *pair)


def test_weights_that_are_no_numbers(refused, pair):
    names = list(load_file(pair[1] / "value_head.safetensors"))
    save_file(dict.fromkeys(names, torch.full((128, 128), float("nan"))), pair[1] / "value_head.safetensors")
    assert "value_head" in refused("demo", SENTENCE, "--nla", *pair)


def test_reconstructor_where_the_verbalizer_belongs(refused, pair):
    assert refused("demo", SENTENCE, "--nla", pair[1], pair[0])


@pytest.mark.parametrize("text", ["Grüße, 世界! 🎈", "\u202etxet\u0000 \ud7ff", "x" * 300, "Tom\nwent\tto the park."])
def test_any_unicode_text_is_explained(text, tmp_path, capsys):
    assert main(["demo", text, "--last", "2", "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert len(rows) == 2
    assert all(row["explanation"] and -1 <= row["cosine"] <= 1.001 for row in rows)


def test_verbalize_writes_one_object_a_token(capsys):
    assert main(["verbalize", SENTENCE, "Lily was happy.", "--last", "3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == [0, 0, 0, 1, 1, 1]
    assert {"token", "explanation", "fve", "cosine", "claims"} <= set(rows[0])


def test_unsure_words_are_left_out(capsys, refused):
    found = []
    for sure in ("0", "0.9"):
        assert main(["verbalize", SENTENCE, "--last", "3", "--sure", sure]) == 0
        found.append([json.loads(line)["explanation"] for line in capsys.readouterr().out.splitlines()])
    assert "…" not in "".join(found[0])
    assert "…" in "".join(found[1])
    assert "'2' is no probability" in refused("verbalize", SENTENCE, "--sure", "2")
    assert "no usable number" in refused("demo", SENTENCE, "--sure", "nan")


def test_best_of_reads_back_at_least_as_well(capsys):
    found = []
    for settings in ([], ["--best-of", "3"]):
        assert main(["verbalize", SENTENCE, "--last", "4", *settings]) == 0
        found.append([json.loads(line)["fve"] for line in capsys.readouterr().out.splitlines()])
    assert all(best >= greedy - 1e-6 for greedy, best in zip(*found, strict=True))
    assert found[1] != found[0]
