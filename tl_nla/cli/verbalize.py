"""``tl-nla verbalize``: explanations of a file's or a text's states, one JSON object a token."""

import argparse
import json
import sys
from collections.abc import Iterator

_NAMED = 3
"""Texts that could not be explained and are named."""


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_choices, add_common, add_nla, add_target, whole_number

    parser = subparsers.add_parser("verbalize", help="explain states of texts, as JSON lines")
    parser.add_argument("text", nargs="*", help="texts; standard input, one text a line, for none or -")
    add_nla(parser)
    parser.add_argument(
        "--last", type=whole_number(1), default=None, metavar="N", help="explain the last N tokens of each text only"
    )
    add_choices(parser)
    add_common(parser)
    add_target(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain each text; the rows go to standard output, or as one JSON file with ``--json``.

    Raises:
        InputError: at the end, naming the texts that could not be explained; the others' rows are written.
    """
    from tl_nla.cli.explaining import explain_text, wrapped_pair_of
    from tl_nla.errors import InputError
    from tl_nla.whole_file import write_json

    given = args.text not in ([], ["-"])
    texts = [(f"text {number}", text) for number, text in enumerate(args.text)] if given else list(_piped())
    if not texts:
        raise InputError("no text was given; pass texts as arguments or one a line on standard input")
    target, nla = wrapped_pair_of(args)
    kept, failed, slow = [], [], args.best_of > 1 or args.beams > 1
    for number, (name, text) in enumerate(texts):
        try:
            rows = [{"text": number, **row} for row in explain_text(target, nla, text, args.last, slow)]
        except InputError as error:
            failed.append(f"{name}: {error}")
            continue
        kept += rows
        for row in [] if args.json else rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    if args.json and kept:
        write_json({"model": target.name, "site": f"blocks.{nla.layer}.hook_resid_post", "rows": kept}, args.json)
    if failed:
        others = f"; the other {len(texts) - len(failed)} were explained" if kept else ""
        more = f" (and {len(failed) - _NAMED} more)" if len(failed) > _NAMED else ""
        raise InputError("; ".join(failed[:_NAMED]) + more + others)
    return 0


def _piped() -> Iterator[tuple[str, str]]:
    """The lines of standard input that hold anything, with their names; bytes that are not UTF-8 stay in them."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline=None)
    for number, line in enumerate(sys.stdin, 1):
        text = (line.removeprefix("\ufeff") if number == 1 else line).rstrip("\n")
        if text.strip():
            yield f"line {number}", text
