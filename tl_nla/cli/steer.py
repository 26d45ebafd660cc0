"""``tl-nla steer PROMPT --rewrite "red->yellow"``: what the model says before and after its words were edited."""

import argparse
from contextlib import nullcontext
from typing import Any

from tl_nla.cli.terminal import make_console, make_table


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_nla, add_target, number, whole_number, words

    parser = subparsers.add_parser("steer", help="edit the explanation of a state and let the model go on from there")
    parser.add_argument("prompt", help="any text")
    parser.add_argument(
        "--rewrite", type=words, action="append", default=[], metavar="A->B", help="replace a word; may be repeated"
    )
    parser.add_argument(
        "--expect", type=words, default=None, metavar="WORD", help="make the explanation expect this next word"
    )
    parser.add_argument(
        "--append", type=words, default=None, metavar="SENTENCE", help="add a sentence to the explanation"
    )
    parser.add_argument("--mode", choices=("delta", "replace"), default="delta", help="delta (default) or replace")
    parser.add_argument(
        "--strength", type=number, nargs="+", default=[1.0], metavar="X",
        help="0 is no steering (default 1); or several",
    )  # fmt: skip
    parser.add_argument(
        "--where", choices=("last", "prompt", "generated", "all"), default="last",
        help="last (the prompt's last token, default), prompt, generated, all",
    )  # fmt: skip
    parser.add_argument(
        "--tokens", type=whole_number(1), default=12, metavar="N", help="tokens to generate (default 12)"
    )
    add_nla(parser)
    add_common(parser)
    add_target(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Generate with and without steering and print both beside the edited words."""
    from tl_nla.cli.explaining import encode_text, pair_of
    from tl_nla.errors import InputError
    from tl_nla.whole_file import write_json

    rewrite = _rewriter(args)
    if args.where == "generated" and args.tokens == 1:
        raise InputError("--where generated needs --tokens 2 or more: nothing comes behind the only generated token")
    console = make_console()
    with console.status("loading the model"):
        target, nla = pair_of(args)
    ids = encode_text(target, args.prompt).ids
    context = int(target.model.cfg.n_ctx)
    if len(ids) + args.tokens > context:
        raise InputError(
            f"--tokens is {args.tokens}; {context - len(ids)} fit behind the prompt in the model's context of {context}"
        )
    runs = [steer_text(target, nla, ids, rewrite, args, strength) for strength in args.strength]
    console.print(_table(runs))
    found = runs[0] if len(runs) == 1 else {"sweep": runs}
    if args.json:
        write_json({"model": target.name, "prompt": args.prompt, **found}, args.json)
    return 0


def _rewriter(args: argparse.Namespace) -> Any:
    from tl_nla.errors import InputError
    from tl_nla.steering import append, compose, expect, parse_rewrite

    parts = [parse_rewrite(text) for text in args.rewrite]
    parts += [expect(args.expect)] if args.expect else []
    parts += [append(args.append)] if args.append else []
    if not parts:
        raise InputError("no edit was given; add --rewrite 'red->yellow', --expect WORD or --append SENTENCE")
    return compose(*parts)


def steer_text(
    target: Any, nla: Any, ids: list[int], rewrite: Any, args: argparse.Namespace, strength: float
) -> dict[str, Any]:
    """The unsteered and the steered continuation, their first token's likeliest words, and the edits made."""
    import torch

    from tl_nla.adapters import SteeringAdapter, attach
    from tl_nla.model.text import TextEncoder

    first = len(TextEncoder(target.tokenizer, target.model).begin)
    places: dict[str, dict[str, Any]] = {
        "last": {"positions": -1, "generated": False},
        "prompt": {"positions": slice(first, None), "generated": False},
        "generated": {"positions": "all", "generated": "only"},
        "all": {"positions": slice(first, None)},
    }
    point = f"blocks.{nla.layer}.hook_resid_post"
    adapter = SteeringAdapter(nla, point, rewrite, args.mode, strength, **places[args.where])
    tokens = torch.tensor([ids])
    texts, likeliest = [], []
    for adapters in ((), (adapter,)):
        pairs = [pair for one in adapters for pair in one.hooks(target.model)]
        with torch.no_grad():
            chances = target.model.run_with_hooks(tokens, fwd_hooks=pairs)[0, -1].float().softmax(-1).topk(3)
        likeliest.append([
            [target.tokenizer.decode([token]), chance]
            for token, chance in zip(chances.indices.tolist(), chances.values.tolist(), strict=True)
        ])  # fmt: skip
        adapter.reset()
        settings = {"max_new_tokens": args.tokens, "do_sample": False, "verbose": False}
        with attach(target.model, adapter) if adapters else nullcontext():
            grown = target.model.generate(tokens, **settings)
        texts.append(target.tokenizer.decode(grown[0, len(ids) :]))
    edits = [
        {"position": row.position, "before": row.before, "after": row.after, "size": row.size}
        for row in adapter.results()
        if row.before != row.after
    ]
    return {"strength": strength, "unsteered": texts[0], "steered": texts[1], "next_unsteered": likeliest[0],
            "next_steered": likeliest[1], "edits": edits}  # fmt: skip


def _table(runs: list[dict[str, Any]]) -> Any:
    from rich.text import Text

    def words(likeliest: list[Any]) -> Text:
        return Text(", ".join(f"{word!r} {chance:.2f}" for word, chance in likeliest))

    table = make_table()
    named = [f"steered, {run['strength']:g}" for run in runs] if len(runs) > 1 else ["steered"]
    for name in ("", "unsteered", *named):
        table.add_column(name, style="bold" if not name else "")
    first = runs[0]
    table.add_row("next", words(first["next_unsteered"]), *(words(run["next_steered"]) for run in runs))
    table.add_row("text", Text(first["unsteered"]), *(Text(run["steered"]) for run in runs))
    for edit in first["edits"][:8]:
        table.add_row(f"words at {edit['position']}", Text(edit["before"]), Text(edit["after"]))
    if not first["edits"]:
        table.caption = "The edit changed no explanation: the words that it names were not said."
    elif len(first["edits"]) > 8:
        table.caption = f"and {len(first['edits']) - 8} more positions"
    return table
