"""``tl-nla benchmark``: a verbalizer beside every control, and cheaters that have to be unmasked."""

import argparse
from pathlib import Path
from typing import Any

_SIZES = {  # train, calibration, test documents; positions; train positions; planted facts; silent vectors
    "full": (500, 40, 75, 2, 4, 100, 40),
    "small": (250, 30, 50, 2, 2, 50, 20),
    "tiny": (20, 4, 12, 1, 2, 12, 4),
}

_BOARD = "Leaderboard of verbalizers"
_MADE = "Made from the --json files of runs by tl-nla benchmark --leaderboard FILE ... --markdown PAGE"


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_prepend_bos, add_seed, output_file, output_folder, whole_number

    parser = subparsers.add_parser("benchmark", help="score a verbalizer beside every control, cheaters included")
    add_common(parser)
    add_seed(parser)
    add_prepend_bos(parser)
    add = parser.add_argument
    add(
        "--nla", nargs="+", metavar="NAME",
        help="a released folder or hub id, or AV and AR; default: the pair of tiny or smollm2",
    )  # fmt: skip
    add(
        "--oracle", metavar="DIR",
        help="a diff oracle's folder: adds the tasks about writes; default without --nla: that of tiny or smollm2",
    )  # fmt: skip
    add("--texts", metavar="FILE", help="texts that nothing was trained on (default: held-out stories)")
    add(
        "--layer",
        type=whole_number(0),
        metavar="K",
        help="block whose output is told, where the verbalizer does not say",
    )
    add("--size", choices=tuple(_SIZES), default="full", help="how much is measured (default full)")
    add(
        "--dtype", choices=("float32", "bfloat16", "float16", "auto"),
        help="precision (default float32; of smollm2 bfloat16 where the processor has units for it)",
    )  # fmt: skip
    add("--words", type=whole_number(1), default=64, metavar="N", help="tokens of an explanation at most (default 64)")
    add("--reader", choices=("overlap", "likelihood", "both"), default="overlap", help="who picks among candidates")
    add("--reader-model", metavar="NAME", help="language model that reads (default: the target's own base)")
    add("--only", choices=("states", "writes"), help="only the verbalizer's tasks, or only the oracle's")
    add("--no-cheaters", action="store_true", help="leave the planted cheaters out")
    add(
        "--keep", type=output_folder, metavar="DIR",
        help="keep parts here; the same command goes on from them (default: FILE.parts of --json)",
    )  # fmt: skip
    add("--markdown", type=output_file, metavar="FILE", help="write the whole report as Markdown")
    add("--html", type=output_file, metavar="FILE", help="write it as one HTML page")
    add(
        "--leaderboard", nargs="+", metavar="FILE",
        help="run nothing: put the --json files of runs on one page (with --markdown, --html)",
    )  # fmt: skip
    add("--tensorboard", type=output_folder, metavar="DIR", help="write it for TensorBoard")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run, print, write; exit code 3 when a planted cheater was not unmasked."""
    from tl_nla.benchmark.verbalizers import Benchmark, BenchmarkConfig, Sizes, run_benchmark
    from tl_nla.cli.terminal import make_console
    from tl_nla.data.progress import progress_bar

    if args.leaderboard:
        return _leaderboard(args)
    names = ("train", "calibration", "test", "positions", "train_positions", "planted", "silent")
    sizes = Sizes(**dict(zip(names, _SIZES[args.size], strict=True)))
    config = BenchmarkConfig(args.seed, sizes, args.words, args.reader, not args.no_cheaters)
    keep = args.keep or (None if args.json is None else Path(f"{args.json}.parts"))
    what = Benchmark(
        args.model, args.nla, args.oracle, args.texts, args.layer, args.reader_model, None, keep, args.prepend_bos,
        args.dtype, args.only,
    )  # fmt: skip
    with progress_bar():
        outcomes = run_benchmark(what, config)
    _write(args, outcomes)
    console = make_console()
    for outcome in outcomes:
        from tl_nla.benchmark.verbalizers.report import to_terminal

        console.print(
            f"{outcome.verbalizer} on {outcome.model}, {outcome.seconds:.0f} s", highlight=False, markup=False
        )
        console.print(to_terminal(outcome))
    return 0 if all(outcome.unmasked for outcome in outcomes) else 3


def _leaderboard(args: argparse.Namespace) -> int:
    from tl_nla.benchmark.verbalizers.leaderboard import leaderboard, read_boards
    from tl_nla.benchmark.verbalizers.page import html_page
    from tl_nla.benchmark.verbalizers.report import markdown_page, terminal_tables
    from tl_nla.cli.terminal import make_console
    from tl_nla.whole_file import write_text

    tables, console = leaderboard(read_boards(args.leaderboard)), make_console()
    for path, page in ((args.markdown, markdown_page), (args.html, html_page)):
        if path is not None:
            write_text(page(_BOARD, [_MADE], tables), path)
    console.print(*terminal_tables(tables[:1]))
    return 0


def _write(args: argparse.Namespace, outcomes: Any) -> None:
    """All forms that were asked for; those of an oracle beside the verbalizer's, with ``writes`` in their names."""
    from tl_nla.benchmark.verbalizers import log_outcome, to_markdown, to_results
    from tl_nla.benchmark.verbalizers.page import to_html
    from tl_nla.whole_file import write_text

    for number, outcome in enumerate(outcomes):

        def beside(path: Path, number: int = number) -> Path:
            writes = number == 1 or args.only == "writes"
            return path.with_name(f"{path.stem}-writes{path.suffix}") if writes else path

        if args.json is not None:
            to_results(outcome).write(beside(args.json))
        if args.markdown is not None:
            write_text(to_markdown(outcome), beside(args.markdown))
        if args.html is not None:
            write_text(to_html(outcome), beside(args.html))
        if args.tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            with SummaryWriter(str(args.tensorboard)) as writer:
                log_outcome(writer, outcome)
