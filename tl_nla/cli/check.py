"""``tl-nla check --model X``: what can be trusted on a model, in the precision and on the device where it is used."""

import argparse
from typing import Any

_STYLES = {"exact": "green", "approximate": "yellow", "refused": "red"}


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_target

    parser = subparsers.add_parser("check", help="what can be trusted on a model: states, heads, attribution, skips")
    add_common(parser)
    add_target(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the model, try what is used, print the table.

    Returns:
        0 when everything is exact, 1 when something is approximate or refused.
    """
    from rich.console import Console

    from tl_nla.cli.options import target_of
    from tl_nla.reports.check import check

    console = Console()
    with console.status("loading the model"):
        target = target_of(args)
    with console.status("running a few tokens"):
        found = check(target.model)
    console.print(_table(found))
    if args.json is not None:
        args.json.write_text(found.to_json(), encoding="utf-8")
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
