"""Pipes whose reader leaves, full disks, narrow terminals, poor encodings."""

import io
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tl_nla.cli.demo import words_table
from tl_nla.cli.main import main
from tl_nla.cli.terminal import make_console

STORY = "Tom found a kite painted red. The kite was"


@contextmanager
def nobody_reads(monkeypatch):
    """Standard output is a pipe that nobody reads any more. (In a fixture, pytest would put its own back.)"""
    there, here = os.pipe()
    os.close(there)
    with os.fdopen(here, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        yield stream
    monkeypatch.undo()


@pytest.mark.parametrize(
    "arguments", [["verbalize", STORY, "--last", "1"], ["demo", STORY, "--last", "1"], ["--version"]]
)
def test_a_closed_pipe_is_quiet(arguments, monkeypatch, capfd):
    with nobody_reads(monkeypatch) as gone:
        assert main(arguments) == 0
        gone.write("more")  # what is flushed when Python ends goes nowhere
        gone.flush()
    assert capfd.readouterr().err == ""


def test_files_are_written_although_nobody_reads_the_table(monkeypatch, tmp_path):
    json, svg = tmp_path / "out.json", tmp_path / "out.svg"
    with nobody_reads(monkeypatch):
        assert main(["demo", STORY, "--last", "1", "--json", str(json), "--svg", str(svg)]) == 0
    assert '"explanation"' in json.read_text()
    assert "</svg>" in svg.read_text()


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["--version"]) == 2
    assert capsys.readouterr().err == "tl-nla: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("width", [1, 7, 30])
@pytest.mark.parametrize(
    "arguments",
    [["demo", STORY, "--last", "2"], ["diff", STORY], ["contributions", STORY, "--labels", "--no-skips"],
     ["steer", STORY, "--append", "It is red.", "--tokens", "2"]],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_narrow_terminals(width, arguments, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out
    assert printed.err == ""


def test_numbers_are_whole_at_forty_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["contributions", STORY, "--labels"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert " part      direct skip KL Δ log p" in shown
    assert "in words: no room" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminals_without_unicode(encoding, monkeypatch):
    bytes_written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_written, encoding=encoding))
    assert main(["demo", "世界 → Tom", "--last", "1"]) == 0
    assert make_console().file is sys.stdout
    assert b"claims" in bytes_written.getvalue()


def test_ctrl_c_ends_a_command_in_a_process_of_its_own():
    code = (
        "import signal, sys, tl_nla.cli.main as main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "main._parse = lambda argv: signal.raise_signal(signal.SIGINT)\n"
        "sys.exit(main.main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (130, "tl-nla: interrupted\n")


def test_tokens_without_letters_can_be_seen_in_the_demo():
    row = {"explanation": "Next: a", "fve": None, "cosine": 1.0, "claims": []}
    table = words_table([{**row, "token": token} for token in ("\n", "\t", " a")], "tiny", 1)
    assert [str(cell) for cell in table.columns[0].cells] == ["⏎", "⇥", " a"]
