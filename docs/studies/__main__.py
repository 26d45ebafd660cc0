"""``python -m docs.studies NAME``: remakes the numbers of a results page, from a checkout.

A study is a folder with ``run.py``, which holds ``evaluate(**options) -> Results`` and, where it has options of its
own, ``add_arguments(parser)``. A study that trains and gives no results of its own holds ``main(arguments)``.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tl_nla.cli.options import OneLineParser, output_file
from tl_nla.errors import InputError, unknown

FOLDER = Path(__file__).parent
_BAD_INPUT = 2


def studies() -> list[str]:
    """Names of all studies."""
    return sorted(path.parent.name for path in FOLDER.glob("*/run.py"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one study, print its table, and write the JSON.

    Args:
        arguments: name first; those of the process when ``None``.

    Returns:
        The exit code: 0, or 2 for bad input (one line on standard error).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not given or given[0].startswith("-"):
            raise InputError(f"give the name of a study: {', '.join(studies())}")
        return _run(given[0], given[1:])
    except (InputError, OSError) as error:
        sys.stderr.write(f"docs.studies: {' '.join(str(error).split())}\n")
        return _BAD_INPUT


def _run(name: str, rest: list[str]) -> int:
    if name not in studies():
        raise unknown("study", name, studies())
    study = importlib.import_module(f"docs.studies.{name}.run")
    if hasattr(study, "main"):
        study.main(rest)
        return 0
    options = _options(study, name, rest)
    json, markdown = options.pop("json"), options.pop("markdown")
    from rich.console import Console

    from tl_nla.benchmark.tables import to_markdown, to_table
    from tl_nla.data.progress import progress_bar, tell

    console = Console()
    with progress_bar():
        tell(name)
        results = study.evaluate(**options)
    if markdown:
        console.out(to_markdown(results), highlight=False)
    else:
        console.print(to_table(results, console.width))
    if json is not None:
        results.write(json)
    return 0


def _options(study: object, name: str, rest: list[str]) -> dict[str, object]:
    parser = OneLineParser(prog=f"python -m docs.studies {name}", formatter_class=argparse.HelpFormatter)
    parser.add_argument("--json", type=output_file, default=None, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    if hasattr(study, "add_arguments"):
        study.add_arguments(parser)
    return vars(parser.parse_args(rest))


if __name__ == "__main__":
    sys.exit(main())
