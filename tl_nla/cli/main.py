"""Entry point of ``tl-nla``: finds the command's file, runs it, turns bad input into one line and exit code 2.

A command is a module of this package with ``add_parser(subparsers)``, which adds one or more parsers and calls
``parser.set_defaults(run=run)`` on each, and ``run(args) -> int | None``. Such a module imports nothing heavy at its
top: what it needs, it imports inside ``run``. A parser that sets ``passthrough=True`` receives the arguments it does
not know as ``args.extra`` (for LightningCLI).
"""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

from tl_nla.cli.examples import add_examples, overview
from tl_nla.cli.options import OneLineParser
from tl_nla.cli.terminal import drop_output, write_anything
from tl_nla.errors import InputError, unknown

# Command -> module; a command whose module is not there yet does not exist for the user.
COMMANDS = {
    "demo": "demo",
    "doctor": "doctor",
    "check": "check",
    "verbalize": "verbalize",
    "diff": "diff",
    "steer": "steer",
    "contributions": "contributions",
    "heads": "heads",
    "fit-oracle": "fit_oracle",
    "fit": "training",
    "validate": "training",
    "test": "training",
    "predict": "training",
    "evaluate": "evaluate",
    "benchmark": "benchmark",
    "bench": "bench",
}
BAD_INPUT, INTERRUPTED = 2, 130
TRACEBACK = "TL_NLA_TRACEBACK"
"""Environment variable that lets an error nobody foresaw end in its traceback."""


def available_commands() -> dict[str, str]:
    """The commands that exist, with the full name of the module of each."""
    modules = {command: f"tl_nla.cli.{name}" for command, name in COMMANDS.items()}
    return {command: module for command, module in modules.items() if importlib.util.find_spec(module)}


def build_parser(commands: dict[str, str]) -> argparse.ArgumentParser:
    """Build the parser with one subparser a command.

    Args:
        commands: command -> module, as from `available_commands`.
    """
    parser = OneLineParser(
        prog="tl-nla", description="Say in words what a language model's activations and writes hold."
    )
    parser.add_argument("--version", action="store_true", help="print the versions that matter and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=OneLineParser)
    for module in dict.fromkeys(commands.values()):
        importlib.import_module(module).add_parser(subparsers)
    add_examples(subparsers)
    return parser


def _parse(argv: list[str]) -> argparse.Namespace | None:
    commands = available_commands()
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        raise unknown("command", argv[0], commands)
    parser = build_parser(commands)
    args, extra = parser.parse_known_args(argv)
    if args.version:
        from tl_nla.benchmark.results import versions

        sys.stdout.write("".join(f"{name} {version}\n" for name, version in versions().items()))
        return None
    if extra and not getattr(args, "passthrough", False):
        raise InputError(f"unrecognized arguments: {' '.join(extra)} (see tl-nla {args.command or ''} --help)")
    if args.command is None:
        sys.stdout.write(overview())
        return None
    args.extra = extra
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tl-nla``.

    Args:
        argv: the arguments after the program's name; those of the process when None.

    Returns:
        The exit code: 0; 2 when it could not be done (one line on standard error says why); 130 when interrupted.
    """
    write_anything()
    try:
        args = _parse(list(sys.argv[1:] if argv is None else argv))
        code = 0 if args is None else int(args.run(args) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `tl-nla ... | head` is no mistake
        drop_output()
        return 0
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except SystemExit as left:
        if isinstance(left.__context__, KeyboardInterrupt):  # Lightning's Trainer leaves like this
            return _complain("interrupted", INTERRUPTED)
        raise
    except Exception as error:
        return _complain(_told(error), BAD_INPUT)


def _told(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):  # a path that is not there or may not be read or written
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    if os.environ.get(TRACEBACK):
        raise error
    return (
        f"{type(error).__name__}: {error} (tl-nla did not foresee this: a model, file or setting that it does not "
        f"know, or a fault of its own; {TRACEBACK}=1 shows where)"
    )


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"tl-nla: {' '.join(text.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
