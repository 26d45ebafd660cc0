"""``tl-nla fit-oracle --model M --out DIR``: a diff oracle trained stage by stage on a model of the user's own."""

import argparse
import importlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

UNUSABLE = 3
"""Exit code of a training that ran to its end and whose oracle tells nothing."""
REMEDY = "Give it more --steps and --documents; a longer run starts afresh in another --keep folder"
_OPTIONS = ("texts", "documents", "steps", "precision", "dtype", "device", "quantization",
            "injection_char", "prepend_bos", "keep",
            "method")  # fmt: skip  # fmt: skip


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_prepend_bos, output_folder, whole_number
    from tl_nla.cli.suite_options import add_training_options

    parser = subparsers.add_parser("fit-oracle", help="train a diff oracle on a model of your own, stage by stage")
    add_common(parser)
    parser.add_argument("--out", type=output_folder, default=None, metavar="DIR", help="save the oracle here")
    parser.add_argument(
        "--estimate", type=whole_number(1), default=None, metavar="TOKENS",
        help="tell the memory of every stage for documents of so many tokens, and train nothing",
    )  # fmt: skip
    add_training_options(parser)
    parser.add_argument(
        "--method", choices=("words", "trained"), default="words",
        help="words: fitted in closed form, says words alone (default). Trained: a verbalizer and a reconstructor made "
        "from the model, for --steps steps each, which also answer questions",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=output_folder, default=None, metavar="DIR",
        help="keep stages here; the same command goes on from them when interrupted (default: OUT.stages)",
    )  # fmt: skip
    add_prepend_bos(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the stages, save the oracle, and tell how well label texts rebuild held-out writes.

    Returns:
        0; ``UNUSABLE`` when the explanations of the saved oracle tell nothing.

    Raises:
        InputError: without a folder to save into.
    """
    from tl_nla.cli.terminal import make_console
    from tl_nla.errors import InputError
    from tl_nla.whole_file import write_json

    if args.estimate is not None:
        return _estimated(args)
    if args.out is None:
        raise InputError("fit-oracle needs --out DIR, the folder that the oracle is saved in; or --estimate TOKENS")
    # Commands train with lightning_modules, which is found by name: tl_nla imports nothing of it.
    training = importlib.import_module("lightning_modules.training.oracle_commands")
    args.keep = args.keep or default_keep(args.out)
    console = make_console()
    with console.status("loading") as status:
        options = training.OracleOptions(
            **{name: getattr(args, name) for name in _OPTIONS}, tell=told(status.update, console.print)
        )
        trained = training.fit_oracle(args.model, args.out, options)
        status.update("checking its words")
        wrong = training.complaints_of(trained)
    fve = rebuilt(trained.curve)
    shown = " · ".join(f"{kind} {value:.2f}" for kind, value in fve.items() if value is not None)
    read = "its own words" if args.method == "words" else "label texts, linear head"
    console.print(f"oracle saved in {args.out}; its stages are kept in {args.keep}", highlight=False, markup=False)
    console.print(f"FVE of held-out writes from {read}: {shown}", highlight=False)
    if args.json:
        found = {"model": args.model, "oracle": str(args.out), "stages": str(args.keep), "fve": fve}
        write_json({**found, "rate": trained.recipe.config.learning_rate, "complaints": wrong}, args.json)
    return complain_of(wrong)


def _estimated(args: argparse.Namespace) -> int:
    """Print what the training would take; nothing is loaded."""
    from tl_nla.benchmark.estimated_oracle import OracleWork, estimate_oracle
    from tl_nla.cli.terminal import make_console
    from tl_nla.whole_file import write_json

    sizes = importlib.import_module("lightning_modules.data.oracle_config").SMALL.sizes
    documents = (args.documents or sizes.documents) + sizes.held_documents
    found = estimate_oracle(args.model, OracleWork(documents, tokens=args.estimate), args.dtype)
    make_console().print(found.to_table(), highlight=False, markup=False)
    if args.json:
        write_json(found.as_dict(), args.json)
    return 0


def complain_of(wrong: Sequence[str]) -> int:
    """Say on standard error what is wrong with an oracle's explanations; the exit code that goes with it."""
    for sentence in wrong:
        sys.stderr.write(f"tl-nla: WARNING: do not use this oracle: {sentence}. {REMEDY}\n")
    return UNUSABLE if wrong else 0


def default_keep(out: Path) -> Path:
    """The folder of kept stages beside that of the oracle."""
    return out.with_name(f"{out.name}.stages")


def told(update: Callable[[str], Any], line: Callable[[str], Any] | None = None) -> Callable[[str, int, int], None]:
    """What hears of stages: it shows the running one and its step, and gives each stage a line.

    Args:
        update: shows a text in place of the one before.
        line: shows a text for good.
    """
    known: dict[str, tuple[float, int, float]] = {}

    def tell(name: str, done: int, steps: int) -> None:
        if line is not None and name not in known:
            line(f"stage {name}" + (": found" if steps and done == steps else ""))
        begun, first, last = known.get(name, (0.0, 0, math.inf))
        if done < last:  # also where a stage has several parts, one after the other
            begun, first = time.monotonic(), done
        known[name] = begun, first, done
        left = (time.monotonic() - begun) / (done - first) * (steps - done) if done > first else 0.0
        rest = f", {timedelta(seconds=round(left))} left" if left >= 1 else ""
        update(f"{name}: step {done} of {steps} ({done / steps:.0%}){rest}" if steps else name)

    return tell


def rebuilt(curve: Any) -> dict[str, float | None]:
    """The last point of a reconstructor's learning curve, by kind of write; ``None`` for kinds without any."""
    from tl_nla.benchmark.oracle_rows import KINDS

    return {kind: value if math.isfinite(value) else None for kind, value in zip(KINDS, curve.scores[-1], strict=True)}
