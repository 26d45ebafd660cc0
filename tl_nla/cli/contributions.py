"""``tl-nla contributions "text"``: what each layer and head contributed to the next token, in numbers and in words."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from tl_nla.cli.terminal import make_console, make_table

_TEXT = (
    "One rainy afternoon Tom went to the harbor. Tom found a kite painted red. Tom felt happy. "
    "Lily came to the farm too. Lily had a drum painted blue. They sang a song together. The kite was"
)
_BAR, _WIDE, _MIDDLE, _NARROW = 10, 120, 100, 60


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import add_common, add_target, output_file, output_folder, whole_number, words

    parser = subparsers.add_parser("contributions", help="what each layer and head contributed to the next token")
    parser.add_argument("text", nargs="?", default=_TEXT, help="any text; the last token's prediction is explained")
    for option, metavar, help_ in (
        ("--target", "WORD", "explain this token, such as ' red' (default: the likeliest)"),
        ("--against", "WORD", "explain the logit difference to this token"),
        ("--oracle", "FOLDER", "diff oracle that explains the writes (tiny, smollm2: their own)"),
        ("--compare", "TEXT", "report this text too, for the difference view of --html and --logdir"),
    ):
        parser.add_argument(option, type=words, default=None, metavar=metavar, help=help_)
    for option, kind, metavar, help_ in (
        ("--logdir", output_folder, "DIR", "write the whole report as a new run for tensorboard --logdir DIR"),
        ("--html", output_file, "FILE", "write the whole report as one HTML file that needs no network"),
        ("--svg", output_file, "FILE", "also save the table as a picture"),
        ("--figures", output_folder, "DIR", "also save the heat maps as PNG files (needs matplotlib)"),
    ):
        parser.add_argument(option, type=kind, default=None, metavar=metavar, help=help_)
    quantities = ("logit", "difference", "log_prob")
    parser.add_argument("--quantity", default=None, choices=quantities, help="what the parts add up to")
    parser.add_argument("--labels", action="store_true", help="explain with labels of the model, without an oracle")
    parser.add_argument(
        "--all-tokens", action="store_true", help="name any token in the words, not whole words and the prompt's only"
    )
    parser.add_argument("--no-skips", action="store_true", help="leave out what changes without each part")
    parser.add_argument("--all-positions", action="store_true", help="report every token, not the last one only")
    parser.add_argument(
        "--heads", type=whole_number(0), default=2, metavar="N", help="show N heads of each layer (default 2)"
    )
    parser.add_argument(
        "--estimate", type=whole_number(1), default=None, metavar="TOKENS",
        help="load nothing: print what a report of a text of so many tokens takes",
    )  # fmt: skip
    add_common(parser)
    add_target(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the report, print its table, write the files."""
    from tl_nla.cli.explaining import encode_text
    from tl_nla.cli.options import own_placement, target_of
    from tl_nla.errors import InputError
    from tl_nla.plugins import embedded
    from tl_nla.reports import layer_contributions
    from tl_nla.reports.html_page import html_page
    from tl_nla.reports.progress import progress
    from tl_nla.reports.tensorboard.log import NO_FIGURES, can_draw

    if args.estimate is not None:
        return _estimated(args)
    if args.figures and not can_draw():
        raise InputError(f"--figures draws heat maps: {NO_FIGURES}")
    console = make_console(picture=args.svg is not None)
    with console.status("loading the model"):
        target = target_of(args)
        for text in _texts(args).values():
            encode_text(target, text)
        oracle = None if args.labels else find_oracle(args.model, args.oracle, target.model, **own_placement(args))
        plugin = embedded(args.model)
        named = None if plugin is None else plugin.vocabulary(target.model, target.tokenizer)
    reports = {}
    for name, text in _texts(args).items():
        with progress(console) as tell:
            reports[name] = layer_contributions(
                target.model, text, oracle, args.target, "all" if args.all_positions else -1, against=args.against,
                quantity=args.quantity, skips=not args.no_skips, tokenizer=target.tokenizer, name=target.name,
                vocabulary="all" if args.all_tokens else named, tell=tell,
            )  # fmt: skip
    report = reports["prompt"]
    print_report(console, report, args.heads)
    if args.svg:
        console.save_svg(str(args.svg), title="tl-nla contributions")
    if args.json:
        report.to_json(args.json)
    if args.html:
        with console.status("writing the HTML file"):
            html_page(reports, args.html)
        console.print(f"the whole report, for a browser:  {args.html}", soft_wrap=True, markup=False)
    if args.figures:
        _save_figures(report, args.figures)
    if args.logdir:
        run_name = _log(reports, args.logdir)
        console.print(shown_command(f"the whole report, as run {run_name}:  ", args.logdir), soft_wrap=True)
        if not can_draw():
            console.print(f"It is logged without heat maps: {NO_FIGURES}.", soft_wrap=True, markup=False)
    return 0


def _texts(args: argparse.Namespace) -> dict[str, str]:
    """The texts that are reported, by the names under which they are shown."""
    from tl_nla.errors import InputError

    if args.compare is None:
        return {"prompt": args.text}
    if not (args.html or args.logdir):
        raise InputError("--compare shows two texts side by side; give --html FILE or --logdir DIR as well")
    return {"prompt": args.text, "compared": args.compare}


def _estimated(args: argparse.Namespace) -> int:
    from tl_nla.benchmark.estimate import Workload, estimate
    from tl_nla.cli.options import placement_of
    from tl_nla.whole_file import write_json

    positions = args.estimate if args.all_positions else 1
    work = Workload(batch_size=1, tokens=args.estimate, positions=positions)
    found = estimate(args.model, "report", work, placement_of(args).dtype)
    make_console().print(found.to_table(), highlight=False, markup=False)
    if args.json:
        write_json(found.as_dict(), args.json)
    return 0


def shown_command(before: str, folder: Path) -> Any:
    """The line that shows a report, which can be pasted into a shell as it stands."""
    from rich.text import Text

    return Text.assemble(before, (f"tensorboard --logdir {shlex.quote(str(folder))}", "bold"))


def find_oracle(model: str, folder: str | None, loaded: Any = None, **placed: Any) -> Any:
    """The oracle of a folder; the embedded or shipped one of the model where there is one, else ``None``.

    ``loaded`` is the TransformerLens model of that name.

    ``placed`` is as of ``DiffOracle.from_pretrained``.
    """
    from tl_nla.plugins import embedded, named

    shipped = named(model)
    if shipped is not None and folder is None:
        return None if loaded is None else shipped.oracle(loaded)
    plugin = embedded(model)
    own = None if plugin is None else plugin.WEIGHTS / "oracle"
    found = folder if folder is not None else own if own is not None and own.is_dir() else None
    if found is None:
        return None
    from tl_nla.oracle import DiffOracle

    return DiffOracle.from_pretrained(found, **placed)


def print_report(console: Any, report: Any, heads: int) -> None:
    """Print the prediction, the table of the last reported position with so many heads a layer, and what it means."""
    from rich.text import Text

    from tl_nla.markdown import show

    position, row = report.positions[-1], len(report.positions) - 1
    line = Text("… " if len(report.prompt) > 300 else "")
    line.append(report.prompt[-300:], style="dim")
    line.append(f" →{report.targets[row]}", style="bold green")
    if report.against:
        line.append(f" rather than{report.against[row]}", style="bold magenta")
    console.print(line)
    likely = "   ".join(f"{show(word)} {p:.1%}" for word, p in report.predictions[row])
    console.print(Text(f"the model expects   {likely}", style="dim"))
    console.print(table(report, position, heads, console.width))
    total = report.totals[row]
    console.print(_legend(report, report.sum_of_parts(position), total, worded=console.width >= _NARROW))
    if report.unaccounted:
        missing, share = report.unaccounted[row], report.unaccounted_share[row]
        console.print(f"unaccounted for: {missing:+.2g}, {share:.2%} of the range of the logits", style="dim")
    for note in report.notes:
        console.print(Text(f"note: {note}", style="dim"))
    if report.warning:
        console.print(Text(report.warning, style="bold white on red"))


def table(report: Any, position: int, heads: int, width: int = 150) -> Any:
    """The table of one position: every layer, its strongest heads, its MLP; on narrow screens with fewer columns."""
    from rich.text import Text

    from tl_nla.markdown import show
    from tl_nla.reports.report_text import number

    title = f"{report.model} · what each part contributed"
    worded = width >= _NARROW
    shown = make_table(title, pad_edge=False, padding=(0, int(worded)))
    shown.add_column("part", no_wrap=True)
    shown.add_column("direct", justify="right", no_wrap=True)
    if width >= _WIDE:
        shown.add_column("", width=2 * _BAR + 1, no_wrap=True)
    shown.add_column("skip KL", justify="right", no_wrap=True)
    shown.add_column("Δ log p", justify="right", no_wrap=True)
    shown.add_column("", width=1)
    if width >= _MIDDLE:
        shown.add_column("read", no_wrap=True, max_width=22)
    if worded:
        shown.add_column("in words", ratio=1)
    rows = _rows(report, position, heads)
    largest = max(abs(cell.direct) for cell in rows) or 1.0
    for cell in rows:
        block = cell.component == "block"
        style = "bold cyan" if block else "" if cell.component in ("embed", "bias") else "dim" if _faint(cell) else ""
        read = " ".join(show(word, 12) for word, share in cell.sources if share >= 0.1)
        whole = cell.component in ("embed", "block", "bias", "rounding")
        name = cell.name if whole else f"  {cell.name.split(' ', 1)[1]}"
        shown.add_row(
            Text("final bias" if cell.component == "bias" else name, style=style), f"{cell.direct:+.2f}",
            *([_bar(cell.direct / largest)] if width >= _WIDE else []),
            number(cell.skip_kl, "{:.3f}"), number(cell.skip_target_change, "{:+.3f}"),
            Text("↯" if cell.skip_flip else "", style="bold red"),
            *([Text(read, style="yellow")] if width >= _MIDDLE else []),
            *([Text("" if block else cell.explanation, style=style)] if worded else []),
        )  # fmt: skip
    return shown


def _rows(report: Any, position: int, heads: int) -> list[Any]:
    cells = report.at(position)
    rows = [cell for cell in cells if cell.component == "embed"]
    for layer in range(report.n_layers):
        mine = [cell for cell in cells if cell.layer == layer]
        strongest = sorted((cell for cell in mine if cell.component == "head"),
                           key=lambda cell: -max(cell.skip_kl or 0.0, 0.01 * abs(cell.direct)))  # fmt: skip
        rows += [cell for cell in mine if cell.component == "block"] + strongest[:heads]
        split = {cell.part for cell in strongest}
        whole = [cell for cell in mine if cell.component in ("attn", "mixer") and cell.component not in split]
        rows += whole + [cell for cell in mine if cell.component in ("mlp", "ple")]
    return rows + [cell for cell in cells if cell.layer == report.n_layers and abs(cell.direct) >= 5e-3]


def _faint(cell: Any) -> bool:
    return cell.skip_kl is not None and cell.skip_kl < 1e-3


def _bar(share: float) -> Any:
    """A bar that grows to the right from the middle for what helps, to the left for what hinders."""
    from rich.text import Text

    size = round(abs(share) * _BAR)
    left = ("█" * size if share < 0 else "").rjust(_BAR)
    right = ("█" * size if share > 0 else "").ljust(_BAR)
    return Text.assemble((left, "magenta"), ("│", "dim"), (right, "green"))


def _legend(report: Any, parts: float, total: float, worded: bool = True) -> str:
    quantity = {"logit": "logit", "difference": "logit difference", "log_prob": "log-probability"}[report.target_kind]
    said = "the oracle's words" if report.explained_by == "oracle" else "labels computed from the model (no oracle)"
    skips = any(cell.skip_kl is not None for cell in report.cells)
    changes = (
        "[bold]skip KL[/], [bold]Δ log p[/]: what changes when the part is left out at this position only; "
        "[bold red]↯[/] the prediction flips."
    )
    adds = (
        f"[bold]direct[/] adds up: the parts sum to {parts:.3f}, the model's {quantity} is {total:.3f}.  "
        f"{changes if skips else 'Skips were left out.'}"
    )
    if not worded:
        return f"{adds}\n[bold]in words[/]: no room; widen the terminal, or give --html FILE or --json FILE."
    return (
        f"{adds}\n[bold]in words[/]: {said}. Words say what a write would do "
        f"by itself; the skips {'say' if skips else 'would say'} whether the output needs it."
    )


def _save_figures(report: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in report.figures().items():
        figure.savefig(folder / f"contributions_{name.replace('/', '_')}.png")


def _log(reports: dict[str, Any], folder: Path) -> str:
    """Write the reports as a run of their own, so that none hides another; gives the run's name."""
    from torch.utils.tensorboard import SummaryWriter

    from tl_nla.reports.tensorboard.log import LogConfig, can_draw, log_hparams, log_layout, log_report

    run = new_run(folder)
    with SummaryWriter(str(run)) as writer:
        log_layout(writer, list(reports))
        for name, found in reports.items():
            log_report(writer, found, 0, name, how=LogConfig(images=can_draw(), embeddings=True))
        report = reports["prompt"]
        settings = {"model": report.model, "quantity": report.target_kind, "explained_by": report.explained_by}
        log_hparams(writer, settings, {"hp/target": sum(report.totals) / len(report.totals)})
    return run.name


def new_run(folder: Path, name: str = "contributions") -> Path:
    """Make the first of ``NAME_1``, ``NAME_2``, ... that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        run = folder / f"{name}_{number}"
        try:
            run.mkdir()
        except FileExistsError:  # an earlier run, or one at this very moment
            number += 1
        else:
            return run
