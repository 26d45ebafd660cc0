"""``tl-nla bench``: our fast paths beside the obvious way, on this machine."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tl_nla.cli.terminal import make_console, make_table


def add_parser(subparsers: "argparse._SubParsersAction") -> None:
    """Add the command."""
    from tl_nla.cli.options import output_file, whole_number

    parser = subparsers.add_parser("bench", help="time our fast paths beside the obvious way")
    parser.add_argument(
        "--runs", type=whole_number(1), default=3, metavar="N", help="how often; the shortest counts (default 3)"
    )
    parser.add_argument("--json", type=output_file, default=None, metavar="FILE", help="write the rows as JSON too")
    parser.add_argument(
        "--shape", nargs="+", choices=("gpt2", "smollm2", "gemma2"), default=(), metavar="SHAPE",
        help="reading, attribution and reports on random weights of these shapes, few layers: gpt2, smollm2, gemma2",
    )  # fmt: skip
    parser.add_argument(
        "--model", default=None, metavar="NAME", help="reading and reports on this model (folder or name)"
    )
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16"), default=("float32",), metavar="P",
        help="precisions of --model or --shape: float32 (default), bfloat16",
    )  # fmt: skip
    parser.add_argument(
        "--tokens", type=whole_number(128), default=256, metavar="N", help="of the prompt, at least 128 (default 256)"
    )
    parser.add_argument(
        "--growth", type=output_file, default=None, metavar="FIGURE",
        help="draw how reports and labels grow with the prompt, layers, heads and vocabulary (15 minutes)",
    )  # fmt: skip
    parser.add_argument(
        "--work", action="store_true", help="captures, speaking and generation under hooks of the --model instead"
    )
    parser.add_argument(
        "--states", type=whole_number(1), default=64, metavar="N", help="of --work: put into words (default 64)"
    )
    parser.add_argument(
        "--at-once", type=whole_number(1), default=256, metavar="N",
        help="of --work: states put into words at once, by us and by the peer (default 256, as verbalize does)",
    )  # fmt: skip
    parser.add_argument(
        "--texts", default=None, metavar="FILE",
        help="of --work: states of these texts by the model's own pair (default: random vectors, an untrained pair)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run every case, print the table, and write the JSON."""
    import tl_nla
    from tl_nla.benchmark.bench import embedded_cases, run_case
    from tl_nla.benchmark.results import versions
    from tl_nla.whole_file import write_json

    console = make_console()
    if args.growth:
        return _growth(args, console)
    if args.shape or args.model:
        return _real_size(args, console)
    with console.status("timing") as status:
        tiny = tl_nla.load_tiny()
        rows = []
        for case in embedded_cases(tiny):
            status.update(case.name)
            rows.append(run_case(case, tiny.model, args.runs))
    table = make_table("ours beside the obvious way")
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


def _real_size(args: argparse.Namespace, console: Any) -> int:
    """Reading and reports of models: processor seconds of one thread, ours as a multiple of the peer's."""
    from tl_nla.benchmark.real_size import added_up
    from tl_nla.benchmark.shapes import named_model, shaped
    from tl_nla.errors import InputError

    if args.work and not args.model:
        raise InputError("--work takes a model with a tokenizer; name one with --model")
    columns = {"case": "case", "ours": "ours_cpu_s", "peer": "peer", "peer's": "peer_cpu_s", "ours / peer": "ratio"}
    if args.texts and not args.work:
        raise InputError("--texts belongs to --work; add it")
    settings = {name: getattr(args, name) for name in ("runs", "tokens", "states", "work", "at_once", "texts")}
    tables, differ = _tables_so_far(args, settings), False
    with _one_thread():
        for dtype in args.dtype:
            for name in (args.model,) if args.model else args.shape:
                made = named_model(name, dtype) if args.model else shaped(name, dtype=dtype)
                table = {"model": made.name, "dtype": dtype, **settings, "rows": []}
                table = next((old for old in tables if {**old, "rows": []} == table), table)
                tables += [] if table in tables else [table]
                cases = _work(made, args, dtype) if args.work else _reading(made, args, dtype)
                for done in _compared(cases, table["rows"], made, args, console):
                    table["rows"] = done
                    _write(args, {"tables": tables})
                rows = added_up(table["rows"])
                differ = differ or any("differ" in row for row in rows)
                console.print(_table(f"{made.name}, {dtype}: processor seconds of one thread", rows, columns))
                for row in rows:
                    if "fve" in row:
                        console.print(f"{row['case']}: {row['explanations_per_s']:.1f} a processor second, FVE "
                                      f"{row['fve']:.3f}", highlight=False)  # fmt: skip
    if differ:
        console.print("Where there is no time, the two ways gave different results: their times would say nothing.")
    return int(differ)


def _tables_so_far(args: argparse.Namespace, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What an earlier run of the same command wrote into ``--json`` before it was interrupted."""
    from tl_nla.benchmark.results import versions

    if not args.json or not args.json.is_file():
        return []
    try:
        found = json.loads(args.json.read_text(encoding="utf-8"))
    except ValueError:
        return []
    tables = found.get("tables", []) if isinstance(found, dict) and found.get("versions") == versions() else []
    return [table for table in tables if all(table.get(name) == value for name, value in settings.items())]


def _compared(
    cases: list[Any], known: list[dict[str, Any]], made: Any, args: argparse.Namespace, console: Any
) -> Iterator[list[dict[str, Any]]]:
    """All rows so far after each case; those that are known already are not run again."""
    from tl_nla.benchmark.real_size import compared

    done = {(row["case"], row["peer"]) for row in known}
    rows = list(known)
    with console.status("timing") as status:
        for number, case in enumerate(cases, 1):
            if (case.name, case.peer) in done:
                continue
            status.update(f"{made.name}, {number} of {len(cases)}: {case.name}, beside: {case.peer}")
            rows.append(compared(case, args.runs))
            yield rows


def _growth(args: argparse.Namespace, console: Any) -> int:
    from tl_nla.benchmark.figures import check_figure
    from tl_nla.benchmark.growth import draw_growth, growth_rows

    check_figure(str(args.growth))
    with _one_thread(), console.status("timing") as status:
        rows = list(growth_rows(args.runs, status.update))
    columns = {"varied": "varied", "size": "size", "what": "way", "CPU s": "cpu_s", "MiB": "peak_mb"}
    console.print(_table("growth: processor seconds of one thread, peak memory of tensors", rows, columns))
    draw_growth(rows, args.growth)
    _write(args, {"rows": rows})
    return 0


def _reading(made: Any, args: argparse.Namespace, dtype: str) -> list[Any]:
    """States, writes and reports at ``--tokens`` tokens."""
    import torch

    from tl_nla.benchmark.real_size import direct_cases, reading_cases, report_cases

    tokens = torch.randint(10, 20_000, (1, args.tokens), generator=torch.Generator().manual_seed(0))
    cases = [*report_cases(made, tokens, 1), *report_cases(made, tokens, 16)]
    if args.shape and dtype == "float32":  # TransformerLens rounds its normalised parts in bfloat16
        cases += direct_cases(made, tokens)
    return [*cases, *reading_cases(made, tokens)]


def _work(made: Any, args: argparse.Namespace, dtype: str) -> list[Any]:
    """Captures, speaking and hooks during generation; the verbalizer is the model's own, or an untrained one."""
    from tl_nla.benchmark.real_work import WorkSizes, capture_cases, hook_case

    model, sizes = made.bridge, WorkSizes(piece=args.at_once)
    rest = [hook_case(model, sizes), *capture_cases(model, model.tokenizer, sizes)]
    return [*rest, *_speaking(args, dtype, model, sizes)]


def _speaking(args: argparse.Namespace, dtype: str, model: Any, sizes: Any) -> list[Any]:
    from tl_nla.benchmark.speaking import random_states, speaking_cases, states_of_texts
    from tl_nla.cli.explaining import load_pair
    from tl_nla.data.documents import load_documents, shuffle_documents
    from tl_nla.model.placement import Placement
    from tl_nla.nla.fresh import fresh_nla

    if args.texts is None:
        nla = fresh_nla(args.model, int(model.cfg.n_layers) // 2, "constant")
        return list(speaking_cases(nla, random_states(nla, args.states), sizes, read_back=False))
    target, nla = load_pair(args.model, None, placement=Placement(dtype))
    documents = shuffle_documents(load_documents(args.texts, sys.maxsize))
    acts = states_of_texts(target.model, target.tokenizer, nla, documents, args.states)
    return list(speaking_cases(nla, acts, sizes, read_back=True))


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _table(title: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> Any:
    table = make_table(title)
    for name, key in columns.items():
        table.add_column(name, justify="left" if isinstance(rows[0].get(key), str) else "right")
    for row in rows:
        values = [row.get(key, "differ") for key in columns.values()]
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values))
    return table


def _write(args: argparse.Namespace, content: dict[str, Any]) -> None:
    from tl_nla.benchmark.results import versions
    from tl_nla.whole_file import write_json

    if args.json:
        write_json({**content, "versions": versions()}, args.json)
