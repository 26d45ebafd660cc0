"""``tl-nla check --nla FOLDER``: whether a released pair or oracle is as its description says, and its best layer."""

import argparse
from typing import Any


def check_released(args: argparse.Namespace) -> int:
    """Load what was named, run its checks, measure layers where the target is given.

    Returns:
        0 when everything is as described, 1 when something is not.
    """
    from rich.console import Console

    from tl_nla.cli.options import own_placement, target_of
    from tl_nla.errors import InputError
    from tl_nla.nla.formats.listing import Listing
    from tl_nla.nla.formats.unreadable import is_oracle
    from tl_nla.whole_file import write_json

    if len(args.nla) > 2:
        raise InputError(
            f"--nla was given {len(args.nla)} names; give the pair's folder, or verbalizer and reconstructor"
        )
    console, placed = Console(), own_placement(args)
    with console.status("loading"):
        loaded, rows = _oracle(args, placed) if is_oracle(Listing.of(args.nla[0])) else _pair(args, placed)
    console.print(_table(loaded.provenance, rows))
    content: dict[str, Any] = {"provenance": loaded.provenance, "rows": [row.as_dict() for row in rows], "layers": []}
    good = all(row.passed for row in rows)
    if args.model is not None and hasattr(loaded, "reconstruct"):
        from tl_nla.nla.formats.testing.layers import best_layer, score_layers

        with console.status("reading the target"):
            target = target_of(args)
            scores = score_layers(loaded, target.model, target.tokenizer, rows=args.rows)
        console.print(_layer_table(scores))
        content["layers"] = [score.as_dict() for score in scores]
        best = best_layer(scores)
        if best != loaded.layer:
            good = False
            console.print(
                f"Warning: layer {best} is rebuilt better than layer {loaded.layer}, which the files name: another "
                "target, a layer that was counted one off, or too few rows."
            )
    content["passed"] = good
    if args.json is not None:
        write_json(content, args.json)
    return 0 if good else 1


def _pair(args: argparse.Namespace, placed: dict[str, Any]) -> tuple[Any, Any]:
    from tl_nla.nla import NLA
    from tl_nla.nla.formats.testing.conformance import check_pair

    nla = NLA.from_pretrained(
        args.nla[0], args.nla[1] if args.nla[1:] else None, base=args.base, choice=args.choice, **placed
    )
    return nla, check_pair(nla)


def _oracle(args: argparse.Namespace, placed: dict[str, Any]) -> tuple[Any, Any]:
    from tl_nla.nla.activation_oracle import ActivationOracle
    from tl_nla.nla.formats.testing.conformance import check_oracle

    oracle = ActivationOracle.from_pretrained(args.nla[0], base=args.base, **placed)
    return oracle, check_oracle(oracle)


def _table(provenance: dict[str, Any], rows: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{provenance['family']}, base {provenance['base'] or 'not named'}")
    for name in ("what", "as described", "found"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.what, Text("yes", "green") if row.passed else Text("no", "red"), Text(row.detail))
    return table


def _layer_table(scores: Any) -> Any:
    from rich.table import Table

    table = Table(title=f"Reconstruction of {scores[0].rows} states of the target, greedy words")
    for name in ("layer", "hidden_states index", "FVE", "cosine", "extracted"):
        table.add_column(name, justify="right")
    for one in scores:
        table.add_row(str(one.layer), str(one.layer + 1), f"{one.fve:.3f}", f"{one.cosine:.3f}", f"{one.extracted:.0%}")
    return table
