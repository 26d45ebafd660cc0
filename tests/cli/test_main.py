"""The command line keeps its promises whatever a command does."""

import subprocess
import sys
import types

import pytest


@pytest.fixture
def cli(monkeypatch):
    """The entry point with one command, ``probe``, whose behaviour the test sets as ``cli.run``."""
    from tl_nla.cli import main as module

    command = types.ModuleType("tl_nla.cli.probe")
    state = types.SimpleNamespace(run=lambda args: None, main=module.main)

    def add_parser(subparsers):
        from tl_nla.cli.options import add_common

        parser = subparsers.add_parser("probe", help="what a test wants")
        add_common(parser)
        parser.set_defaults(run=lambda args: state.run(args), passthrough=False)
        free = subparsers.add_parser("free", add_help=False)
        free.set_defaults(run=lambda args: state.run(args), passthrough=True)

    command.add_parser = add_parser
    monkeypatch.setitem(sys.modules, "tl_nla.cli.probe", command)
    monkeypatch.setattr(module, "available_commands", lambda: {"probe": "tl_nla.cli.probe", "free": "tl_nla.cli.probe"})
    return state


def fail(error):
    def run(args):
        raise error

    return run


def one_line(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("kind", ["input", "missing"])
def test_bad_input_is_one_line_and_exit_code_two(cli, capsys, kind):
    from tl_nla.errors import InputError

    cli.run = fail(InputError("layer 9\nis out of range") if kind == "input" else FileNotFoundError(2, "gone", "x"))
    assert cli.main(["probe"]) == 2
    assert ("layer 9 is out of range" if kind == "input" else "gone") in one_line(capsys)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["prob"], "nearest: probe"),
        (["probe", "--modle", "x"], "--modle"),
        (["probe", "--json", "/no/such/folder/x.json"], "no folder"),
        (["probe", "--json", "."], "is a folder"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_two(cli, capsys, argv, says):
    assert cli.main(argv) == 2
    assert says in one_line(capsys)


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), KeyError("blocks.0.attn"), AssertionError()])
def test_an_error_that_nobody_foresaw_is_one_line_too(cli, capsys, monkeypatch, error):
    monkeypatch.delenv("TL_NLA_TRACEBACK", raising=False)
    cli.run = fail(error)
    assert cli.main(["probe"]) == 2
    said = one_line(capsys)
    assert type(error).__name__ in said
    assert "TL_NLA_TRACEBACK=1 shows where" in said
    monkeypatch.setenv("TL_NLA_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli.main(["probe"])


def test_interrupt(cli, capsys):
    cli.run = fail(KeyboardInterrupt())
    assert cli.main(["probe"]) == 130
    assert one_line(capsys) == "tl-nla: interrupted\n"


def test_an_interrupted_training_has_the_same_exit_code(cli, capsys):
    def run(args):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # as Lightning's Trainer does

    cli.run = run
    assert cli.main(["probe"]) == 130
    assert one_line(capsys) == "tl-nla: interrupted\n"
    cli.run = lambda args: sys.exit(5)
    with pytest.raises(SystemExit) as left:
        cli.main(["probe"])
    assert left.value.code == 5


def test_exit_code_of_the_command_is_passed_on(cli):
    cli.run = lambda args: 3
    assert cli.main(["probe"]) == 3


def test_passthrough_keeps_what_it_does_not_know(cli):
    seen = {}
    cli.run = lambda args: seen.update(extra=args.extra)
    assert cli.main(["free", "-c", "x.yaml", "--trainer.max_steps=3"]) == 0
    assert seen["extra"] == ["-c", "x.yaml", "--trainer.max_steps=3"]


def test_without_a_command_it_shows_five_things_to_do(cli, capsys):
    assert cli.main([]) == 0
    assert "tl-nla contributions" in capsys.readouterr().out


def test_help_lists_the_commands(cli, capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "probe" in capsys.readouterr().out


def test_version(cli, capsys):
    assert cli.main(["--version"]) == 0
    assert "tl-nla " in capsys.readouterr().out


def test_only_commands_with_a_module_are_offered():
    from tl_nla.cli.main import COMMANDS, available_commands

    assert set(available_commands()) <= set(COMMANDS)
    for module in set(available_commands().values()):
        __import__(module)
        assert callable(sys.modules[module].add_parser)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from tl_nla.cli.main import main; main([]);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'lightning', 'transformer_lens')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
