"""``tl-nla bench``: our fast paths beside the obvious way, on this machine."""

import argparse


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import output_file, whole_number

    parser = subparsers.add_parser("bench", help="time our fast paths beside the obvious way")
    parser.add_argument(
        "--runs", type=whole_number(1), default=3, metavar="N", help="how often; the shortest counts (default 3)"
    )
    parser.add_argument("--json", type=output_file, default=None, metavar="FILE", help="write the rows as JSON too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run every case, print the table, and write the JSON."""
    from rich import box
    from rich.table import Table

    import tl_nla
    from tl_nla.benchmark.bench import embedded_cases, run_case
    from tl_nla.benchmark.results import versions
    from tl_nla.cli.terminal import make_console
    from tl_nla.json_file import write_json

    console = make_console()
    with console.status("timing") as status:
        tiny = tl_nla.load_tiny()
        rows = []
        for case in embedded_cases(tiny):
            status.update(case.name)
            rows.append(run_case(case, tiny.model, args.runs))
    table = Table(title="ours beside the obvious way", box=box.SIMPLE_HEAD, header_style="bold")
    for name in ("case", "ours, s", "peer", "peer, s", "faster", "ours, MiB", "peer, MiB"):
        table.add_column(name, justify="left" if name in ("case", "peer") else "right")
    for row in rows:
        numbers = [f"{row[name]:.3f}" for name in ("ours_s", "peer_s")]
        table.add_row(row["case"], numbers[0], row["peer"], numbers[1], f"{row['ratio']:.1f} x",
                      f"{row['ours_peak_mb']:.1f}", f"{row['peer_peak_mb']:.1f}")  # fmt: skip
    console.print(table)
    if args.json:
        write_json({"rows": rows, "versions": versions()}, args.json)
    return 0
