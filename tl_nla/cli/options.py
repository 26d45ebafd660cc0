"""Options that several commands share."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tl_nla.errors import InputError
from tl_nla.outputs import check_file, check_folder
from tl_nla.paths import user_path

if TYPE_CHECKING:
    from tl_nla.model.placement import Placement
    from tl_nla.model.targets import Target

_MOST = 2**31


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaint is one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as an ``InputError``."""
        raise InputError(f"{message} (see {self.prog} --help)")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add ``--model`` (``tiny``, ``smollm2``, a local folder or a hub id) and ``--json FILE``."""
    parser.add_argument(
        "--model", default="tiny", metavar="NAME", help="tiny (default), smollm2, a local folder or a hub id"
    )
    parser.add_argument("--json", type=output_file, default=None, metavar="FILE", help="write the result as JSON too")


def add_prepend_bos(parser: argparse.ArgumentParser) -> None:
    """Add ``--prepend-bos`` and ``--no-prepend-bos``."""
    parser.add_argument(
        "--prepend-bos", action=argparse.BooleanOptionalAction, default=None,
        help="put a begin token before each text, or none (default: what TransformerLens does with the model)",
    )  # fmt: skip


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add ``--prepend-bos`` and what says how the model is loaded; see :func:`target_of`."""
    add_placement(parser)
    add_prepend_bos(parser)


def add_nla(parser: argparse.ArgumentParser) -> None:
    """Add ``--nla``; see :func:`tl_nla.cli.explaining.load_pair`."""
    parser.add_argument(
        "--nla", nargs="+", metavar="NAME",
        help="the NLA of --model: verbalizer and reconstructor (folders or hub ids), or one folder that holds both",
    )  # fmt: skip


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add ``--beams``, ``--best-of`` and ``--sure``; see :func:`tl_nla.cli.explaining.wrapped_pair_of`."""
    parser.add_argument(
        "--beams", type=whole_number(1), default=1, metavar="N",
        help="find the likeliest explanation by a beam search with N beams, such as 4, in the place of greedy words",
    )  # fmt: skip
    parser.add_argument(
        "--best-of", type=whole_number(1), default=1, metavar="N",
        help="say N explanations a state, keep the one that the reconstructor reads back best",
    )  # fmt: skip
    parser.add_argument(
        "--sure", type=probability, default=None, metavar="P",
        help="show words that were said with a probability below P as … (such as 0.5)",
    )  # fmt: skip


def add_placement(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``, ``--device`` and ``--quantization``; see :func:`placement_of`."""
    parser.add_argument(
        "--dtype", default=None, choices=("float32", "bfloat16", "float16", "auto"),
        help="precision of the model; auto: what its configuration says (default float32; of smollm2 what this machine "
        "runs fastest)",
    )  # fmt: skip
    parser.add_argument(
        "--device", default=None, metavar="NAME", help="of the model and of what explains it: cpu (default) or cuda"
    )
    parser.add_argument(
        "--quantization", default=None, choices=("int8", "nf4"),
        help="linear layers of the model in eight bits (needs torchao), or in four (bitsandbytes)",
    )  # fmt: skip


def target_of(args: argparse.Namespace) -> "Target":
    """The model that the options ask for, loaded.

    Raises:
        InputError: when it cannot be loaded, or for a device that this machine lacks.
    """
    from tl_nla.model.targets import load_target

    return load_target(args.model, args.prepend_bos, placement_of(args))


def placement_of(args: argparse.Namespace) -> "Placement":
    """Precision, device and quantization that the options ask for.

    Raises:
        InputError: for a device or library that this machine lacks.
    """
    from tl_nla.model.placement import Placement
    from tl_nla.model.targets import usual_precision

    usual = "float32" if args.model is None else usual_precision(args.model, "float32")
    return Placement(args.dtype or usual, args.device, quantization=args.quantization)


def own_placement(args: argparse.Namespace) -> dict[str, Any]:
    """Precision and device of what explains the model, a pair or an oracle: float32 unless asked otherwise."""
    return {"dtype": args.dtype or "float32", "device": args.device or "cpu"}


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed`` for whatever the command draws at random."""
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")


def whole_number(least: int) -> Callable[[str], int]:
    """A reader of whole numbers from ``least`` on, for the type of an option."""

    def read(text: str) -> int:
        if not text.strip().lstrip("+-").isdecimal() or not least <= int(text) < _MOST:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
        return int(text)

    return read


def probability(text: str) -> float:
    """Read a number between 0 and 1.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    if not 0 <= number(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability; give a number between 0 and 1, such as 0.5")
    return float(text)


def number(text: str) -> float:
    """Read a finite number.

    Raises:
        argparse.ArgumentTypeError: for anything else, NaN and infinity among it.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < float(_MOST):
        raise argparse.ArgumentTypeError(f"{text!r} is no usable number; give one such as 0.5")
    return value


def words(text: str) -> str:
    """Read a text.

    Raises:
        argparse.ArgumentTypeError: when it holds bytes that are not UTF-8.
    """
    from tl_nla.model.text import checked

    return _read(checked, text)


def any_path(text: str) -> Path:
    """Read a path, ``~`` for the home folder included.

    Raises:
        argparse.ArgumentTypeError: when there is no such home folder.
    """
    return _read(user_path, text)


def output_file(text: str) -> Path:
    """Read a path to write to, and refuse at once what could not be written at the end.

    Raises:
        argparse.ArgumentTypeError: when the folder does not exist, the path is a folder, or it may not be written.
    """
    return _output(text, check_file)


def output_folder(text: str) -> Path:
    """Read a folder to write into, which may not exist yet, and refuse at once what could not be written at the end.

    Raises:
        argparse.ArgumentTypeError: when the path, or one above it, is a file, or may not be written to.
    """
    return _output(text, check_folder)


def _output(text: str, check: Callable[[Path], Path]) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path; give the name of a file or folder")
    return _read(check, any_path(text))


def _read(read: Callable[[Any], Any], given: Any) -> Any:
    try:
        return read(given)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
