"""``tl-nla heads``: what each attention head does over a corpus, as a table, a page, JSON and a TensorBoard run."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tl_nla.cli.terminal import make_console, make_table

if TYPE_CHECKING:
    from tl_nla.data import Document
    from tl_nla.reports.heads.card import HeadCards

_POOL = 16
"""Documents that the sample is drawn from, as a multiple of it: a file may be sorted by kind."""


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_seed, add_target, output_file, output_folder, whole_number, words

    parser = subparsers.add_parser("heads", help="what each attention head does over a corpus: a card for every head")
    add = parser.add_argument
    add("--texts", type=words, default=None, metavar="FILE", help="text or JSON-lines file, or dataset:NAME "
        "(default: the stories of the embedded model)")  # fmt: skip
    for option, least, help_ in (
        ("--documents", 2, "documents that are read (default 128)"),
        ("--length", 8, "tokens of each (default 96)"),
        ("--effects", 0, "documents on which heads are left out (default 6)"),
        ("--words", 1, "words for a write (default 8)"),
    ):
        add(option, type=whole_number(least), default=None, metavar="N", help=help_)
    add("--layers", type=whole_number(0), nargs="+", default=None, metavar="N", help="of these layers only")
    add(
        "--oracle",
        type=words,
        default=None,
        metavar="FOLDER",
        help="diff oracle whose words are scored, too; shipped: the one that ships for the model",
    )
    add("--all-tokens", action="store_true", help="name any token, not whole words only")
    add("--cache", type=output_folder, default=None, metavar="DIR",
        help="keep what is done here; the same command goes on from there when interrupted")  # fmt: skip
    add(
        "--sort", default="layer", metavar="BY", help="order of the table: layer, kind, skip_kl, direct, fve, or a kind"
    )
    add("--show", type=whole_number(1), default=None, metavar="N", help="rows of the table (default: all)")
    add("--html", type=output_file, default=None, metavar="FILE", help="one page: sortable, each card with examples")
    add("--logdir", type=output_folder, default=None, metavar="DIR", help="a new run for tensorboard --logdir DIR")
    add_seed(parser)
    add_common(parser)
    add_target(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the cards, print the table, write the files."""
    from tl_nla.cli.contributions import find_oracle
    from tl_nla.cli.options import own_placement, target_of
    from tl_nla.data.progress import progress_bar
    from tl_nla.errors import InputError, unknown
    from tl_nla.reports.heads.card import SORTS
    from tl_nla.reports.heads.config import HeadCardsConfig
    from tl_nla.reports.heads.make import head_cards

    if args.sort not in SORTS:
        raise unknown("order of cards", args.sort, SORTS)
    given = {"documents": args.documents, "length": args.length, "effects": args.effects, "words": args.words,
             "layers": None if args.layers is None else tuple(args.layers)}  # fmt: skip
    config = HeadCardsConfig(seed=args.seed, vocabulary="all" if args.all_tokens else "words",
                             **{name: value for name, value in given.items() if value is not None})  # fmt: skip
    console = make_console()
    documents = _documents(args.texts, args.model, config.documents)
    with console.status("loading the model"):
        target = target_of(args)
        placed = own_placement(args)
        folder = None if args.oracle == "shipped" else args.oracle
        oracle = None if args.oracle is None else find_oracle(args.model, folder, target.model, **placed)
        if args.oracle is not None and oracle is None:
            raise InputError(f"no oracle ships for --model {args.model!r}; give --oracle the folder of one")
    with progress_bar():
        cards = replace(head_cards(target.model, documents, config, oracle=oracle, cache=args.cache), model=target.name)
    console.print(table(cards, args.sort, args.show, console.width))
    for note in cards.notes:
        console.print(f"note: {note}", style="dim", markup=False, highlight=False)
    _write(args, cards, console)
    return 0


def _documents(texts: str | None, model: str, count: int) -> "list[Document]":
    from tl_nla.data import load_documents
    from tl_nla.errors import InputError
    from tl_nla.plugins import embedded

    plugin = embedded(model)
    if texts is None and plugin is None:
        raise InputError("give --texts: a text or JSON-lines file, such as held_out.jsonl of `make corpus`")
    if texts is None and plugin is not None:
        found: list[Document] = plugin.documents(count, plugin.HELD_OUT_SEED)
        return found
    return load_documents(str(texts), _POOL * count)


def table(cards: "HeadCards", by: str, count: int | None, width: int) -> Any:
    """The table of the heads; on narrow screens with fewer columns."""
    from rich.text import Text

    from tl_nla.markdown import visible
    from tl_nla.reports.heads.text import COLUMNS, cells

    facts = cards.facts
    title = f"{cards.model} · {len(cards)} heads over {facts['documents']} documents, {facts['tokens']} tokens"
    shown = make_table(title, pad_edge=False)
    hidden = {"reads", "often beside that"} if width < 140 else set()
    hidden |= {"where it looks"} if width < 100 else set()
    for name in COLUMNS:
        if name not in hidden:
            right = name in ("words' FVE", "skip KL", "direct")
            shown.add_column(name, justify="right" if right else "left", no_wrap=right or name == "head")
    for card in cards.sorted(by)[:count]:
        style = "" if card.kinds else "dim"
        row = [Text(visible(value), style=style) for name, value in zip(COLUMNS, cells(card), strict=True)
               if name not in hidden]  # fmt: skip
        shown.add_row(*row)
    return shown


def _write(args: argparse.Namespace, cards: "HeadCards", console: Any) -> None:
    if args.html:
        cards.to_html(args.html)
    if args.json:
        results(cards, args.model, args.seed).write(args.json)
    if args.logdir:
        from torch.utils.tensorboard import SummaryWriter

        from tl_nla.cli.contributions import new_run, shown_command
        from tl_nla.reports.heads.tensorboard import log_head_cards

        folder = new_run(args.logdir, "heads")
        with SummaryWriter(str(folder)) as writer:
            log_head_cards(writer, cards)
        console.print(shown_command(f"the cards, as run {folder.name}:  ", args.logdir), soft_wrap=True)


def results(cards: "HeadCards", model: str, seed: int) -> Any:
    """The scores by the results contract; the whole cards stand in its definition."""
    from tl_nla.benchmark.results import Results, Row

    rows = []
    for card in cards.cards:
        words, place = card.words, (card.layer, card.head)
        for arm, value, count in (("gold", words.fve, words.heldout), ("shuffled", words.fve_shuffled, words.heldout),
                                  ("explanation", words.fve_oracle, words.oracle_rows)):  # fmt: skip
            if value is not None:
                rows.append(Row(arm, "fve", value, None, None, count, "heldout", *place))
        if card.matters.skip_kl is not None:
            rows.append(Row("state", "kl", card.matters.skip_kl, None, None, card.matters.positions, "heldout", *place))
    definition = {
        "fve": "of a linear reader of the words, held-out documents, against the head's own mean write; no interval",
        "kl": "KL(clean || without the head) in nats at one position", **cards.to_dict(),
    }  # fmt: skip
    return Results("heads", model, [seed], definition, rows, cards.seconds)
