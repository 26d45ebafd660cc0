"""What ``tl-nla`` alone shows, and the examples behind every help: they parse, and they fit any terminal."""

import shlex

import pytest

from tl_nla.cli.examples import EXAMPLES, FIVE, examples_of, overview
from tl_nla.cli.main import available_commands, build_parser

PARSER = build_parser(available_commands())


def test_every_command_has_examples_and_every_example_a_command():
    assert set(EXAMPLES) == set(available_commands())


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_parse_and_are_in_the_help(command):
    for line, _ in EXAMPLES[command]:
        arguments = shlex.split(line.partition(" < ")[0])[1:]
        assert arguments[0] == command
        args, left = PARSER.parse_known_args(arguments)
        assert not left or args.passthrough, left
        if PARSER._subparsers._group_actions[0].choices[command].add_help:
            assert f"  {line}\n" in PARSER._subparsers._group_actions[0].choices[command].format_help()


def test_the_five_things_are_commands():
    assert len(FIVE) == 5
    for _, line in FIVE:
        assert shlex.split(line)[1] in EXAMPLES


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_any_width(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for text in (overview(), examples_of("contributions")):
        prose = [line for line in text.splitlines() if "tl-nla " not in line]
        assert max(map(len, prose)) <= columns
    assert all(line in overview() for _, line in FIVE)


def test_every_command_writes_json():
    choices = PARSER._subparsers._group_actions[0].choices
    without = [name for name, parser in choices.items() if "--json" not in parser._option_string_actions]
    assert without == ["fit", "validate", "test", "predict"]  # LightningCLI's; ours is taken out before
    assert any("--json" in line for line, _ in EXAMPLES["fit"])
