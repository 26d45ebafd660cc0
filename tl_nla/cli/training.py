"""``tl-nla fit|validate|test|predict -c FILE.yaml``: Lightning's own command line on our modules."""

import argparse
import importlib
import importlib.util
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml

from tl_nla.cli.config_errors import readable
from tl_nla.errors import InputError
from tl_nla.paths import user_path

_COMMANDS = {
    "fit": "train what a YAML file describes",
    "validate": "score a checkpoint on the held-out documents",
    "test": "score a checkpoint on the test documents",
    "predict": "run a checkpoint over documents and write what it says",
}


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the four commands; LightningCLI reads their arguments."""
    for command, text in _COMMANDS.items():
        parser = subparsers.add_parser(command, help=text, add_help=False)
        parser.set_defaults(run=run, passthrough=True)


def configs_folder() -> Path:
    """The packaged YAML files."""
    return Path(str(importlib.util.find_spec("lightning_modules").origin)).parent / "configs"  # type: ignore[union-attr]


def resolve_configs(arguments: list[str]) -> list[str]:
    """Replace names of packaged YAML files by their paths; a file of the user's comes first.

    Raises:
        InputError: when a file exists in neither place.
    """
    resolved = list(arguments)
    for place, argument in enumerate(arguments):
        option, equals, name = argument.partition("=")
        if option not in ("-c", "--config"):
            continue
        if equals:
            resolved[place] = f"{option}={_config(name)}"
        elif place + 1 < len(arguments):
            resolved[place + 1] = _config(arguments[place + 1])
    return resolved


def _config(name: str) -> str:
    path = user_path(name)
    if not path.is_file():
        path = configs_folder() / path.name
        if not path.is_file():
            known = ", ".join(sorted(packaged.name for packaged in configs_folder().glob("*.yaml")))
            raise InputError(f"no config {name!r}, neither a file nor packaged; packaged: {known}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config {name!r} cannot be read as text: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"config {name!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        held = "nothing" if content is None else type(content).__name__
        raise InputError(
            f"config {name!r} holds {held}; give one with model, data and trainer, such as tiny_verbalizer.yaml"
        )
    return str(path)


def run(args: argparse.Namespace) -> int:
    """Hand over to LightningCLI.

    Raises:
        InputError: when jsonargparse is missing or the configuration is wrong.
    """
    if importlib.util.find_spec("jsonargparse") is None:
        raise InputError("tl-nla fit needs jsonargparse: pip install 'tl-nla[cli]'")
    if {"-h", "--help"} & set(args.extra):
        from tl_nla.cli.examples import examples_of

        sys.stdout.write(f"{_COMMANDS[args.command]}\n\n{examples_of(args.command)}\n\n")
    json, arguments = _without_json(args.extra)
    if "--estimate" in arguments:
        return _estimated(args.command, [argument for argument in arguments if argument != "--estimate"], json)
    if sys.stderr.isatty():
        from rich.console import Console

        Console(stderr=True).print(f"{args.command}: loading Lightning and the modules of the configuration")
    cli = run_cli([args.command, *resolve_configs(arguments)])
    if json:
        _write_metrics(args.command, cli.trainer, json)
    return 0


def _without_json(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The file of ``--json``, which is ours, and the arguments that are LightningCLI's."""
    from tl_nla.cli.options import OneLineParser, output_file

    parser = OneLineParser(prog="tl-nla", add_help=False, allow_abbrev=False)
    parser.add_argument("--json", type=output_file, default=None)
    found, rest = parser.parse_known_args(arguments)
    return found.json, rest


def _write_metrics(command: str, trainer: Any, file: Path) -> None:
    from tl_nla.benchmark.results import versions
    from tl_nla.whole_file import write_json

    numbers = {name: float(value) for name, value in trainer.callback_metrics.items()}
    metrics = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    write_json({"command": command, "steps": trainer.global_step, "metrics": metrics, "versions": versions()}, file)


def _estimated(command: str, arguments: list[str], json: Path | None) -> int:
    """Print what a training would take; nothing is loaded."""
    from tl_nla.cli.terminal import make_console
    from tl_nla.whole_file import write_json

    if command != "fit":
        raise InputError(f"--estimate is an option of fit, not of {command}; leave it out")
    module = importlib.import_module("lightning_modules.estimating")
    cli = run_cli(["fit", *resolve_configs(arguments)], module.EstimatingCLI)
    found = module.estimate_of(cli.config.fit)
    make_console().print(found.to_table(), highlight=False, markup=False)
    if json:
        write_json(found.as_dict(), json)
    return 0


def run_cli(arguments: list[str], kind: Any = None) -> Any:
    """Build and run LightningCLI with these arguments.

    Args:
        arguments: subcommand first.
        kind: of command line; the one that runs what it reads when ``None``.

    Returns:
        The command line object, with ``.model``, ``.datamodule`` and ``.trainer``.

    Raises:
        InputError: when the configuration is wrong.
    """
    import lightning as L

    settings = {"exit_on_error": False}
    try:
        with warnings.catch_warnings():
            # The arguments are given, on purpose, although sys.argv has some too.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            # Lightning's own calls into jsonargparse; nothing that a user could change.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"lightning\.pytorch\.cli")
            # The weights after a step are what NLATraining wants to keep.
            warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")
            # Runs of documents carry their numbers themselves.
            warnings.filterwarnings("ignore", message="Couldn't infer the batch indices")
            # Commands train with lightning_modules, which is found by name: tl_nla imports nothing of it.
            return (kind or importlib.import_module("lightning_modules.cli").CheckingCLI)(
                L.LightningModule, L.LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
                seed_everything_default=0, args=arguments, save_config_kwargs={"overwrite": True},
                parser_kwargs={**settings, **dict.fromkeys(_COMMANDS, settings)},
            )  # fmt: skip
    except Exception as error:
        raise _plain(error) from None


_MISUSES = ("ArgumentError", "MisconfigurationException", "PathError", "ParserError", "YAMLError")


def _plain(error: Exception) -> Exception:
    """The complaint of ours that was wrapped, or a library's about its use as one line; anything else as it is."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, InputError):
            return inner
        inner = inner.__cause__ or inner.__context__
    text = " ".join(str(error).split())
    names = {kind.__name__ for kind in type(error).__mro__}
    misuse = bool(names & set(_MISUSES)) or text.startswith(("Does not validate", "Parser key"))
    # Lightning checks its arguments with plain ValueErrors; those of torch and of ours are faults to be looked into.
    plain = isinstance(error, ImportError | TypeError | ValueError)
    misuse |= plain and _raised_in(error).startswith(("lightning.", "jsonargparse"))
    return InputError(readable(text)) if misuse else error


def _raised_in(error: BaseException) -> str:
    """Name of the module that raised an error."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return "" if place is None else str(place.tb_frame.f_globals.get("__name__", ""))
