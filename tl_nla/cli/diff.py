"""``tl-nla diff "text"``: what a head, a layer or a span of layers writes, in words; all heads at once by default."""

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

_TEXT = (
    "One rainy afternoon Tom went to the harbor. Tom found a red kite. Tom felt happy. Lily came to the farm too. "
    "Lily had a blue drum. Tom saw that the kite was"
)
_NAMED = 3


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_target, whole_number

    parser = subparsers.add_parser("diff", help="what a head, a layer or a span of layers writes, in words")
    parser.add_argument("text", nargs="?", default=_TEXT, help="any text")
    parser.add_argument(
        "--layer", type=whole_number(0), default=None, metavar="N", help="explain this layer (with --part, --head)"
    )
    parser.add_argument(
        "--part", choices=("block", "attn", "mlp", "heads"), default=None,
        help="what of the layer: its block (default), attention, MLP, or its attention as the sum of its heads",
    )  # fmt: skip
    parser.add_argument("--head", type=whole_number(0), default=None, metavar="H", help="explain this head of --layer")
    parser.add_argument("--span", default=None, metavar="SITE", help="explain a span, '1-3' or two states with '->'")
    parser.add_argument("--position", type=int, default=-1, metavar="P", help="which token (default -1, the last)")
    parser.add_argument("--oracle", default=None, metavar="DIR", help="diff oracle (tiny, smollm2: their own)")
    add_common(parser)
    add_target(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain the writes and print them: a line each, or the grid of all heads."""
    import torch

    from tl_nla.cli.explaining import encode_text
    from tl_nla.cli.options import own_placement, target_of
    from tl_nla.cli.terminal import make_console
    from tl_nla.errors import InputError
    from tl_nla.whole_file import write_json

    asked = chosen_sites(args.layer, args.part, args.head, args.span)
    target = target_of(args)
    oracle = load_oracle(args.model, args.oracle, target.model, **own_placement(args))
    ids = encode_text(target, args.text).ids
    if not -len(ids) <= args.position < len(ids):
        raise InputError(f"--position is {args.position}; the text has {len(ids)} tokens, a begin token included")
    place = args.position % len(ids)
    sites = asked or [f"blocks.{layer}.attn.head.{head}" for layer in range(target.model.cfg.n_layers)
                      for head in range(target.model.cfg.n_heads)]  # fmt: skip
    if args.part == "heads":
        sites = [f"blocks.{args.layer}.attn.head.{head}" for head in range(target.model.cfg.n_heads)]
    rows = explain_at(target.model, oracle, torch.tensor([ids]), sites, place)
    token = target.tokenizer.decode([ids[place]])
    console = make_console()
    if asked is None:
        console.print(grid(rows, token, place))
    else:
        for row in rows:
            console.print(
                f"[bold]{row['site']}[/] · norm {row['norm']:.2f} · cosine {row['cosine']:.2f}", highlight=False
            )
            console.print(f"  {row['text']}", highlight=False, markup=False)
    if args.json:
        write_json(
            {"model": target.name, "text": args.text, "position": place, "token": token, "rows": rows}, args.json
        )
    return 0


def chosen_sites(layer: int | None, part: str | None, head: int | None, span: str | None) -> list[str] | None:
    """The sites that the options name; ``None`` for all heads.

    Raises:
        InputError: for options that contradict each other.
    """
    from tl_nla.errors import InputError

    if span is not None:
        if layer is not None or head is not None or part is not None:
            raise InputError("--span stands alone; leave out --layer, --part and --head")
        first, dash, last = span.partition("-")
        short = dash and first.strip().isdigit() and last.strip().isdigit()
        return [f"blocks.{int(first)}.hook_resid_pre -> blocks.{int(last)}.hook_resid_post" if short else span]
    if layer is None:
        if head is not None or part is not None:
            raise InputError("--head and --part need --layer")
        return None
    if layer < 0 or (head is not None and head < 0):
        raise InputError(f"--layer is {layer}, --head is {head}; count both from 0")
    if head is not None:
        if part is not None:
            raise InputError("--head and --part exclude each other")
        return [f"blocks.{layer}.attn.head.{head}"]
    if part == "heads":
        return [f"blocks.{layer}.attn"]
    return [f"blocks.{layer}" + ("" if part in (None, "block") else f".{part}")]


def load_oracle(model: str, folder: str | None, loaded: Any = None, **placed: Any) -> Any:
    """The oracle of a folder, or the embedded or shipped one of the model; ``placed`` as of ``from_pretrained``.

    Raises:
        InputError: when another model comes without an oracle.
    """
    from tl_nla.errors import InputError
    from tl_nla.oracle import DiffOracle
    from tl_nla.plugins import embedded, named, part

    plugin = named(model)
    own = plugin.oracle(loaded) if plugin is not None and folder is None and loaded is not None else None
    if own is not None:
        return own
    if folder is None and embedded(model) is None:
        raise InputError(
            f"--model {model!r} needs its oracle: add --oracle DIR, which this trains: "
            f"tl-nla fit-oracle --model {shlex.quote(model)} --out DIR"
        )
    return DiffOracle.from_pretrained(part(model, "oracle") if folder is None else folder, **placed)


def explain_at(model: Any, oracle: Any, tokens: Any, sites: Sequence[str], position: int) -> list[dict[str, Any]]:
    """One row a site: the write at a position in words, with its size and how well the words give it back."""
    import torch

    from tl_nla.adapters import attach
    from tl_nla.adapters.diff import DiffAdapter

    adapter = DiffAdapter(oracle, list(sites), positions=[position])
    with attach(model, adapter), torch.no_grad():
        model(tokens)
    return [row.as_dict() for row in adapter.results(tokens, max_new_tokens=90)]


def grid(rows: Sequence[dict[str, Any]], token: str, position: int) -> Any:
    """All heads as a table: layers down, heads across; the words promoted most and the told strength."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from tl_nla.model.sites import Site
    from tl_nla.oracle import parse_label
    from tl_nla.oracle.labels import STEPS

    parsed = [(Site.parse(row["site"]), parse_label(row["text"])) for row in rows]
    table = Table(title=f"what each head writes at {token!r} (position {position})", box=box.SIMPLE_HEAD)
    heads = sorted({int(site.head or 0) for site, _ in parsed})
    table.add_column("layer")
    for head in heads:
        table.add_column(f"head {head}")
    for layer in sorted({int(site.layer or 0) for site, _ in parsed}):
        cells = []
        for head in heads:
            label = next(label for site, label in parsed if (site.layer, site.head) == (layer, head))
            words = " ".join((label.promoted or ())[:_NAMED]) or "nothing"
            step = "" if label.strength is None else f"\n({STEPS[label.strength]})"
            cells.append(Text(words + step))
        table.add_row(str(layer), *cells)
    return table
