"""``tl-nla evaluate SUITE``: a pair or an oracle of the user's own, scored with its controls and intervals.

The numbers of the results pages are remade by ``python -m docs.studies NAME`` in a checkout.
"""

import argparse
import importlib
from typing import Any

from tl_nla.cli.fit_oracle import complain_of, default_keep
from tl_nla.cli.options import OneLineParser, placement_of
from tl_nla.errors import InputError, unknown

ORACLE_SUITES = ("heads", "layers", "spans", "questions")
SUITES = ("faithfulness", *ORACLE_SUITES)
STUDIES = ("contributions", "injection", "layers_matrix", "nla", "steering", "steganography", "training")
"""Suites of the embedded world, which were commands once."""


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_prepend_bos

    parser = subparsers.add_parser("evaluate", help="score a pair or an oracle of your own with all controls")
    parser.add_argument("suite", metavar="SUITE", help=f"what is scored: {', '.join(SUITES)}")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    add_common(parser)
    add_prepend_bos(parser)
    parser.set_defaults(run=run, passthrough=True)


def run(args: argparse.Namespace) -> int:
    """Run the suite, print its table, and write the JSON."""
    if args.suite in STUDIES:
        raise InputError(f"{args.suite!r} is a study of the embedded world: python -m docs.studies {args.suite}")
    if args.suite not in SUITES:
        raise unknown("suite", args.suite, SUITES)
    module = importlib.import_module(f"tl_nla.benchmark.{args.suite}_suite")
    options = _own_options(args.suite, args.extra)
    if args.prepend_bos is not None:
        options["prepend_bos"] = args.prepend_bos

    from tl_nla.benchmark.tables import to_markdown, to_table
    from tl_nla.cli.terminal import make_console
    from tl_nla.data.progress import progress_bar, tell

    console = make_console()
    with progress_bar():
        tell("loading")
        results, wrong = _score(module, args.suite, args.model, options)
    if args.markdown:
        console.out(to_markdown(results), highlight=False)
    else:
        console.print(to_table(results, console.width))
    if args.json:
        results.write(args.json)
    return complain_of(wrong)


def _score(module: Any, suite: str, model: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
    """The suite's results, and what is wrong with the words of an oracle, which is trained first."""
    from tl_nla.data.progress import who_listens

    if suite not in ORACLE_SUITES:
        said = argparse.Namespace(
            model=model, **{name: options.pop(name) for name in ("dtype", "device", "quantization")}
        )
        options["loaded"] = module.TargetConfig(placement_of(said), options.pop("prepend_bos", None))
        return module.evaluate(model, **options), []
    shown = {"figure": options.pop("figure")} if "figure" in options else {}
    if shown.get("figure") is not None:
        from tl_nla.benchmark.figures import check_figure

        check_figure(shown["figure"])
    from tl_nla.benchmark.oracle_health import complaints
    from tl_nla.plugins import embedded

    if embedded(model) is not None and options["documents"] is None and options["steps"] is None:
        raise InputError(
            f"the oracle of {model!r} is trained and scored: python -m docs.studies {suite}; to train another one on "
            "it, give --documents or --steps"
        )
    # Commands train with lightning_modules, which is found by name: tl_nla imports nothing of it.
    training = importlib.import_module("lightning_modules.training.oracle_commands")
    oracle = options.pop("oracle", None)
    if oracle is not None and options["keep"] is None:
        options["keep"] = default_keep(oracle)
    how = training.OracleOptions(**options, tell=who_listens())
    scored = training.train_and_score(model, oracle, how)
    return module.evaluate(scored, **shown), [one for part in scored.parts for one in complaints(part)]


def _own_options(suite: str, extra: list[str]) -> dict[str, Any]:
    from tl_nla.cli.suite_options import add_suite_options

    parser = OneLineParser(prog=f"tl-nla evaluate {suite}")
    add_suite_options(parser, suite, suite in ORACLE_SUITES)
    return vars(parser.parse_args(extra))
