"""``tl-nla doctor``: what this machine and this installation have, and what they lack."""

import argparse
from typing import Any


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import output_file

    parser = subparsers.add_parser("doctor", help="versions, devices, TensorBoard and models of this machine")
    parser.add_argument("--json", type=output_file, default=None, metavar="FILE", help="write the findings as JSON too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look, print a line a finding, and write the JSON. Nothing is downloaded and no model is loaded.

    Returns:
        0; 1 when something that tl-nla needs is missing.
    """
    from rich.text import Text

    from tl_nla.benchmark.machine import look
    from tl_nla.cli.terminal import make_console
    from tl_nla.whole_file import write_json

    console = make_console()
    with console.status("looking"):
        findings = look()
    for finding in findings:
        mark, style = _MARKS[finding.state]
        line = Text.assemble((f"{mark} ", style), (f"{finding.name}: ", "bold"), finding.found)
        console.print(line.append(f" → {finding.remedy}" if finding.remedy else ""), highlight=False)
    broken = [finding.name for finding in findings if finding.state == "missing"]
    console.print(f"\nMissing: {', '.join(broken)}." if broken else "\nEverything that tl-nla needs is here.")
    if args.json:
        write_json({"ready": not broken, "findings": [finding.as_dict() for finding in findings]}, args.json)
    return int(bool(broken))


_MARKS: dict[str, Any] = {"ok": ("✓", "green"), "absent": ("–", "yellow"), "missing": ("✗", "red")}
