"""Options of the suites that ``tl-nla evaluate`` runs; studies of the same name share those of figures."""

import argparse
from collections.abc import Callable

from tl_nla.cli.options import add_placement, output_file, output_folder, whole_number

_FIGURES = {"heads": "draw FVE by layer and the learning curves", "spans": "draw the gap map"}


def add_figure(suite: str) -> Callable[[argparse.ArgumentParser], None]:
    """What adds ``--figure`` to the parser of a suite that can draw."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--figure", type=output_file, default=None, metavar="FILE", help=_FIGURES[suite])

    return add


def add_suite_options(parser: argparse.ArgumentParser, suite: str, trains_an_oracle: bool) -> None:
    """Add the options of one suite."""
    if trains_an_oracle:
        _add_oracle_options(parser)
    else:
        _add_pair_options(parser)
    if suite in _FIGURES:
        add_figure(suite)(parser)


def _add_oracle_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--oracle", type=output_folder, default=None, metavar="DIR", help="save the trained oracle here"
    )
    parser.add_argument(
        "--keep", type=output_folder, default=None, metavar="DIR",
        help="keep stages here; the same command goes on from them when interrupted (default: ORACLE.stages)",
    )  # fmt: skip
    add_training_options(parser)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what the training of an oracle is told: texts, sizes, steps, precision, marker."""
    add = parser.add_argument
    add("--texts", default=None, metavar="FILE", help="text or JSON-lines file (default: stories)")
    add("--documents", type=whole_number(1), default=None, metavar="N", help="training documents")
    add(
        "--steps",
        type=whole_number(1),
        default=None,
        metavar="N",
        help="steps of the reader, and of each reconstructor",
    )
    add("--precision", default=None, metavar="P", help="matrix products: highest (default), high, medium")
    add_placement(parser)
    parser.set_defaults(dtype="float32")
    add("--injection-char", default=None, metavar="C", help="the oracle's marker (default: one is chosen, or added)")


def _add_pair_options(parser: argparse.ArgumentParser) -> None:
    from tl_nla.benchmark.arms import MAX_NEW_TOKENS
    from tl_nla.benchmark.faithfulness_suite import DOCUMENTS

    add = parser.add_argument
    add("--nla", nargs=2, metavar=("AV", "AR"), help="folders or hub ids of the pair; default: the embedded one")
    add("--texts", metavar="FILE", help="text (paragraphs) or JSON lines")
    add(
        "--reader", action="append", default=[], metavar="AR",
        help="a reconstructor never trained with this verbalizer; may be repeated",
    )  # fmt: skip
    add("--documents", type=whole_number(1), default=DOCUMENTS, help="texts to read at most")
    add("--max-new-tokens", type=whole_number(1), default=MAX_NEW_TOKENS, help="cap of an explanation")
    add_placement(parser)
