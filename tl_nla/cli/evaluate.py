"""``tl-nla evaluate SUITE``: the numbers, with their controls and intervals.

A suite is a module ``tl_nla/evaluation/SUITE_suite.py`` with ``evaluate(model: str, **options) -> Results`` and, where
it has options of its own, ``add_arguments(parser)``. A suite whose module does not exist does not exist for the user.
"""

import argparse
import importlib
import importlib.util
import inspect

from tl_nla.cli.options import OneLineParser
from tl_nla.errors import InputError, unknown


def available_suites() -> dict[str, str]:
    """The suites that exist, with the full name of the module of each."""
    from tl_nla.evaluation.results import SUITES

    modules = {suite: f"tl_nla.evaluation.{suite}_suite" for suite in SUITES}
    return {suite: module for suite, module in modules.items() if importlib.util.find_spec(module)}


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_prepend_bos

    parser = subparsers.add_parser("evaluate", help="score a suite with all its controls")
    parser.add_argument("suite", metavar="SUITE", help="which numbers; an unknown name lists what there is")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    add_common(parser)
    add_prepend_bos(parser)
    parser.set_defaults(run=run, passthrough=True)


def run(args: argparse.Namespace) -> int:
    """Run the suite, print its table, and write the JSON."""
    suites = available_suites()
    if args.suite not in suites:
        raise unknown("suite", args.suite, suites)
    module = importlib.import_module(suites[args.suite])
    options = _own_options(module, args.suite, args.extra)
    if args.prepend_bos is not None:
        kinds = {name: given.kind for name, given in inspect.signature(module.evaluate).parameters.items()}
        if "prepend_bos" not in kinds and inspect.Parameter.VAR_KEYWORD not in kinds.values():
            raise InputError(f"--prepend-bos has no meaning for {args.suite}, which reads stories of its own")
        options["prepend_bos"] = args.prepend_bos

    from tl_nla.cli.terminal import make_console
    from tl_nla.evaluation.tables import to_markdown, to_table

    console = make_console()
    with console.status("evaluating"):
        results = module.evaluate(args.model, **options)
    if args.markdown:
        console.out(to_markdown(results), highlight=False)
    else:
        console.print(to_table(results, console.width))
    if args.json:
        results.write(args.json)
    return 0


def _own_options(module: object, suite: str, extra: list[str]) -> dict[str, object]:
    parser = OneLineParser(prog=f"tl-nla evaluate {suite}")
    if hasattr(module, "add_arguments"):
        module.add_arguments(parser)
    return vars(parser.parse_args(extra))
