"""How texts come in: bytes on standard input, arguments, and the begin token before them."""

import io
import json
import os

import pytest

from tests import tokenizers
from tl_nla.cli.main import main

LINES = [b"\xef\xbb\xbfTom was", b"", b"Lily \xff had", b"Tom\xe2\x80\xa8went", b"   ", b"Mira " * 600, b"The kite was"]


def rows_of(text):
    return [json.loads(line) for line in text.split("\n") if line]


def piped(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii", errors="strict"))


def test_good_lines_are_explained_and_bad_ones_named(monkeypatch, capsys):
    piped(monkeypatch, b"\n".join(LINES))
    assert main(["verbalize", "--last", "1"]) == 2
    printed, errors = capsys.readouterr()
    assert "Traceback" not in errors
    assert errors.count("\n") == 1
    assert "line 3: the text is not UTF-8 (byte 0xff at place 5)" in errors
    assert "line 6: the text has" in errors
    assert errors.endswith("the other 3 were explained\n")
    assert [row["text"] for row in rows_of(printed)] == [0, 2, 4]


def test_a_carriage_return_ends_a_line_as_it_does_in_a_file(monkeypatch, capsys):
    raw = io.TextIOWrapper(io.BytesIO(b"Tom was\r\nTom was\n"), encoding="utf-8", newline="\n")  # as a shell's stdin
    monkeypatch.setattr("sys.stdin", raw)
    assert main(["verbalize", "--last", "1"]) == 0
    windows, unix = rows_of(capsys.readouterr().out)
    assert [windows["token"], unix["token"]] == [" was", " was"]


def test_a_dash_is_standard_input(monkeypatch, capsys):
    piped(monkeypatch, b"Tom was\n")
    assert main(["verbalize", "-", "--last", "1"]) == 0
    assert [row["token"] for row in rows_of(capsys.readouterr().out)] == [" was"]


def test_the_name_of_a_file_is_a_text_and_a_note_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Tom was").write_text("Lily had")
    assert main(["verbalize", "Tom was", "Lily had", "--last", "1"]) == 0
    printed, told = capsys.readouterr()
    assert [row["token"] for row in rows_of(printed)] == [" was", " had"]
    assert told == "note: 'Tom was' is read as a text, not as the file of that name\n"


def test_json_holds_the_good_ones(tmp_path, monkeypatch, capsys):
    piped(monkeypatch, b"Tom was\n\xff\xfe\n")
    assert main(["verbalize", "--last", "1", "--json", str(tmp_path / "a.json")]) == 2
    assert "line 2: the text is not UTF-8" in capsys.readouterr().err
    assert [row["text"] for row in json.loads((tmp_path / "a.json").read_text())["rows"]] == [0]


def test_nothing_is_written_when_every_text_is_bad(tmp_path, monkeypatch, capsys):
    piped(monkeypatch, b"\xff\n" * 5)
    assert main(["verbalize", "--json", str(tmp_path / "a.json")]) == 2
    told = capsys.readouterr().err
    assert told.count("is not UTF-8") == 3
    assert told.endswith("(and 2 more)\n")
    assert not (tmp_path / "a.json").exists()
    piped(monkeypatch, b"\n \n")
    assert main(["verbalize"]) == 2
    assert "no text was given" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "verbalize", "diff", "contributions", "steer"])
def test_arguments_that_are_not_utf8_end_in_one_line(command, capsys):
    more = ["--rewrite", "a->b"] if command == "steer" else []
    assert main([command, os.fsdecode(b"Tom \xff was"), *more]) == 2
    told = capsys.readouterr().err
    assert "is not UTF-8 (byte 0xff at place 4)" in told
    assert told.count("\n") == 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models with tokenizers of several shapes."""
    found = {}
    for family, shape in (("qwen2", "qwen"), ("llama", "smollm")):
        found[shape] = tmp_path_factory.mktemp(shape)
        tokenizers.save_model(found[shape], family, shape)
    return found


def reported(folder, tmp_path, text, *options):
    """The tokens of a contribution report made on the command line."""
    path = tmp_path / "report.json"
    assert main(["contributions", text, "--model", str(folder), "--labels", "--json", str(path), *options]) == 0
    return json.loads(path.read_text())["tokens"]


def test_the_begin_token_on_the_command_line(folders, tmp_path, capsys):
    qwen, smollm = folders["qwen"], folders["smollm"]
    assert reported(qwen, tmp_path, "Hi") == ["H", "i"]
    assert reported(qwen, tmp_path, "Hi", "--prepend-bos") == ["<|im_end|>", "H", "i"]
    assert reported(smollm, tmp_path, "Hi") == ["<|im_start|>", "H", "i"]
    assert reported(smollm, tmp_path, "Hi", "--no-prepend-bos") == ["H", "i"]
    assert reported(smollm, tmp_path, "<|im_start|>Hi") == ["<|im_start|>", "H", "i"]


@pytest.mark.parametrize("command", ["demo", "verbalize", "diff", "steer"])
def test_the_switch_is_a_begin_token_more_or_less(command, tmp_path, capsys):
    more = {"diff": ["--position", "0", "--layer", "0"], "steer": ["--rewrite", "a->b", "--tokens", "1"]}.get(
        command, []
    )
    lengths = []
    for switch in ("--prepend-bos", "--no-prepend-bos"):
        path = tmp_path / f"{switch}.json"
        assert main([command, "Tom was", switch, *more, "--json", str(path)]) == 0
        lengths.append(json.loads(path.read_text()))
    if command == "diff":
        assert [found["token"] for found in lengths] == ["<bos>", "Tom"]
    elif command == "steer":
        assert lengths[0]["next_unsteered"] != lengths[1]["next_unsteered"]
    else:
        assert [[row["position"] for row in found["rows"]] for found in lengths] == [[1, 2], [0, 1]]


def test_studies_are_no_suites(capsys):
    assert main(["evaluate", "nla", "--no-prepend-bos"]) == 2
    assert "python -m docs.studies nla" in capsys.readouterr().err
    assert main(["evaluate", "heads"]) == 2
    assert "python -m docs.studies heads" in capsys.readouterr().err
