"""``tl-nla evaluate SUITE``: the numbers, with their controls and intervals."""

import argparse

from tl_nla.errors import InputError, unknown

_SUITES = ("nla",)


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common

    parser = subparsers.add_parser("evaluate", help="score a suite with all its controls")
    parser.add_argument("suite", metavar="SUITE", help=f"one of {', '.join(_SUITES)}")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the suite, print its table, and write the JSON."""
    if args.suite not in _SUITES:
        raise unknown("suite", args.suite, _SUITES)
    if args.model != "tiny":
        raise InputError(f"--model {args.model!r}: suite 'nla' knows the truth of the embedded world only; use --model tiny")
    from rich.console import Console

    from tl_nla.evaluation.nla_suite import evaluate_nla
    from tl_nla.evaluation.tables import to_markdown, to_table

    console = Console()
    with console.status("evaluating"):
        results = evaluate_nla()
    if args.markdown:
        console.out(to_markdown(results), highlight=False)
    else:
        console.print(to_table(results))
    if args.json:
        results.write(args.json)
    return 0
