"""``tl-nla verbalize``: explanations of a file's or a text's states, one JSON object a token."""

import argparse
import json
import sys


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, whole_number

    parser = subparsers.add_parser("verbalize", help="explain states of texts, as JSON lines")
    parser.add_argument("text", nargs="*", help="texts; standard input, one text a line, when none is given")
    parser.add_argument("--nla", nargs=2, metavar=("AV", "AR"), help="verbalizer and reconstructor folders for --model")
    parser.add_argument(
        "--last", type=whole_number(1), default=None, metavar="N", help="explain the last N tokens of each text only"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain each text; the rows go to standard output, or as one JSON file with ``--json``."""
    from tl_nla.cli.explaining import explain_text, load_pair
    from tl_nla.errors import InputError
    from tl_nla.evaluation.results import write_json

    texts = args.text or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not texts:
        raise InputError("no text was given; pass texts as arguments or one a line on standard input")
    target, nla = load_pair(args.model, args.nla)
    rows = [
        {"text": number, **row}
        for number, text in enumerate(texts)
        for row in explain_text(target, nla, text, args.last)
    ]
    if args.json:
        write_json({"model": target.name, "site": f"blocks.{nla.layer}.hook_resid_post", "rows": rows}, args.json)
        return 0
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    return 0
