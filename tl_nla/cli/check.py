"""``tl-nla check --model X``: what can be trusted on a model, in the precision and on the device where it is used.

With ``--nla`` it checks a released pair or oracle instead (:mod:`tl_nla.cli.check_nla`).
"""

import argparse
from typing import Any

_STYLES = {"exact": "green", "approximate": "yellow", "refused": "red"}


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_target, whole_number

    parser = subparsers.add_parser("check", help="what can be trusted on a model: states, heads, attribution, skips")
    parser.add_argument(
        "--nla", nargs="+", default=None, metavar="NAME",
        help="a released pair or oracle: run its conformance checks; with --model also measure layers K-1, K, K+1",
    )  # fmt: skip
    parser.add_argument("--base", default=None, metavar="NAME", help="model below the adapters of --nla")
    parser.add_argument("--choice", default=None, metavar="NAME", help="which of several checkpoints in --nla")
    parser.add_argument(
        "--rows",
        type=whole_number(2),
        default=48,
        metavar="N",
        help="states a layer for --nla and --model (default 48)",
    )
    add_common(parser)
    add_target(parser)
    parser.set_defaults(run=run, model=None)


def run(args: argparse.Namespace) -> int:
    """Load the model, try what is used, print the table.

    Returns:
        0 when everything is exact, 1 when something is approximate or refused.
    """
    if args.nla is not None:
        from tl_nla.cli.check_nla import check_released

        return check_released(args)
    from rich.console import Console

    from tl_nla.cli.options import target_of
    from tl_nla.reports.check import check
    from tl_nla.whole_file import write_text

    args.model = args.model or "tiny"
    console = Console()
    with console.status("loading the model"):
        target = target_of(args)
    with console.status("running a few tokens"):
        found = check(target.model)
    console.print(_table(found))
    if args.json is not None:
        write_text(found.to_json(), args.json)
    return 0 if found else 1


def _table(found: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    table = Table(title=f"{found.model}, {found.dtype} on {found.device}, {found.seconds:.1f} s", caption=versions)
    for name, settings in (
        ("what", {"no_wrap": True}), ("verdict", {"no_wrap": True}), ("error", {"justify": "right", "no_wrap": True}),
        ("where it holds, or why not", {"overflow": "fold"}),
    ):  # fmt: skip
        table.add_column(name, **settings)
    for row in found.rows:
        error = "–" if row.error is None else f"{row.error:.1e}"
        table.add_row(row.capability, Text(row.verdict, style=_STYLES[row.verdict]), error, Text(row.detail))
    return table
