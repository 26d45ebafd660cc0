"""``tl-nla demo "any sentence"``: what each token's state says, how well, and whether it is true."""

import argparse
from typing import Any

from tl_nla.cli.terminal import make_console, make_table

_SENTENCE = (
    "One rainy afternoon Tom went to the harbor. Tom found a kite painted red. Tom felt happy. "
    "Lily came to the farm too. The kite was red."
)
_MARKS = {"true": "[green]✓[/] ", "false": "[red]✗[/] ", "untold": "[yellow]?[/] "}


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_choices, add_common, add_nla, add_target, output_file, whole_number

    parser = subparsers.add_parser("demo", help="explain the state at every token of a sentence")
    parser.add_argument("sentence", nargs="?", default=_SENTENCE, help="any text")
    add_nla(parser)
    parser.add_argument(
        "--last", type=whole_number(1), default=None, metavar="N", help="explain the last N tokens only"
    )
    add_choices(parser)
    parser.add_argument("--svg", type=output_file, metavar="FILE", help="also save the table as a picture")
    add_common(parser)
    add_target(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain the sentence and print the table."""
    from tl_nla.cli.explaining import explain_text, wrapped_pair_of
    from tl_nla.whole_file import write_json

    console = make_console(picture=args.svg is not None)
    with console.status("loading the model"):
        target, nla = wrapped_pair_of(args)
    explained = explain_text(target, nla, args.sentence, last=args.last, progress=console.is_terminal)
    console.print(words_table(explained, target.name, nla.layer))
    console.print(_legend(explained))
    if args.svg:
        console.save_svg(str(args.svg), title="tl-nla demo")
    if args.json:
        write_json({"model": target.name, "site": f"blocks.{nla.layer}.hook_resid_post", "rows": explained}, args.json)
    return 0


def words_table(rows: list[dict[str, Any]], model: str, layer: int) -> Any:
    """The table of what each token's state says."""
    from rich.text import Text

    from tl_nla.markdown import visible

    table = make_table(f"{model} · blocks.{layer}.hook_resid_post, in words", pad_edge=False)
    table.add_column("token", style="bold cyan", no_wrap=True)
    table.add_column("explanation", ratio=3)
    table.add_column("FVE", justify="right")
    table.add_column("cos", justify="right")
    table.add_column("claims checked against the text", ratio=2)
    for row in rows:
        fve = "–" if row["fve"] is None else f"{row['fve']:.2f}"
        claims = Text.from_markup(_marked(row["claims"]))
        table.add_row(Text(visible(row["token"])), Text(row["explanation"]), fve, f"{row['cosine']:.2f}", claims)
    return table


def _marked(claims: list[dict[str, str]]) -> str:
    """The claims with their verdicts; those on recent words are counted together."""
    recent = [claim["verdict"] == "true" for claim in claims if claim["type"] == "recent"]
    shown = []
    if recent:
        mark = "true" if all(recent) else "untold" if any(recent) else "false"
        shown.append(_MARKS[mark].replace("?", "◐") + f"recent words {sum(recent)}/{len(recent)}")
    for claim in claims:
        if claim["type"] != "recent":
            said = " ".join([claim["type"], *f"{claim['subject']} {claim['value']}".split()])
            shown.append(_MARKS[claim["verdict"]] + said.replace("[", "("))
    return " ".join(shown)


def _legend(rows: list[dict[str, Any]]) -> str:
    verdicts = [claim["verdict"] for row in rows for claim in row["claims"]]
    true = sum(verdict == "true" for verdict in verdicts)
    checked = (
        f"[bold]{true} of {len(verdicts)}[/] claims are true of the text so far "
        "([green]✓[/] true, [yellow]◐[/] in part, [red]✗[/] false, "
        "[yellow]?[/] the text does not say).\n"
    )
    return (checked if verdicts else "") + (
        "FVE: how much of this state the words alone give back (1 all of it, 0 no more than the average state). "
        "A high FVE does not make the words true."
    )
