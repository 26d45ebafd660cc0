"""Measures random tiny models of every family and writes docs/models.md.

    python -m docs.models [--json FILE] [--families llama,gpt2]

Run it once in the environment of each TransformerLens line. Each run writes its own JSON; the page joins all of them.
It ends with 1 when anything failed with an error that is not one of the package's own.
"""

import argparse
import copy
import importlib.metadata
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.models_capabilities import CAPABILITIES
from docs.models_measure import measure_family
from docs.models_page import page
from tests import families

FOLDER = Path(__file__).parent / "models"
PAGE = Path(__file__).parent / "models.md"
_PACKAGES = ("transformer-lens", "transformers", "torch")


def main() -> int:
    """Measure, write the JSON and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    parser.add_argument("--json", type=Path, default=FOLDER / f"transformer-lens-{versions['transformer-lens']}.json")
    parser.add_argument("--families", default="", help="these only, separated by commas; the others stay as stored")
    parser.add_argument("--page-only", action="store_true", help="write the page from the stored JSON")
    arguments = parser.parse_args()
    if not arguments.page_only:
        _measure(arguments.json, versions, arguments.families)
    runs = [_read(path) for path in sorted({*FOLDER.glob("*.json"), arguments.json}, reverse=True) if path.exists()]
    PAGE.write_text(page(runs), encoding="utf-8")
    crashed = [name for run in runs for name in crashes(run)]
    sys.stderr.writelines(f"crash: {name}\n" for name in crashed)
    return 1 if crashed else 0


def _measure(path: Path, versions: dict[str, str], wanted: str) -> None:
    names = [name for name in wanted.split(",") if name] or list(families.FAMILIES)
    if strangers := [name for name in names if name not in families.FAMILIES]:
        raise SystemExit(f"no such family: {', '.join(strangers)}; there are {', '.join(families.FAMILIES)}")
    known = _read(path)["families"] if wanted and path.exists() else {}
    warnings.simplefilter("ignore")
    for name in names:
        known[name] = measure_family(name, CAPABILITIES)
        sys.stderr.write(f"{name}\n")
        ordered = {family: known[family] for family in families.FAMILIES if family in known}
        _write({"versions": versions, "families": ordered}, path)  # a long run that is stopped keeps what it has


def _cells(run: dict[str, Any]) -> Iterator[tuple[str, str, str, list[Any]]]:
    for family, found in run["families"].items():
        for precision, column in found.get("precisions", {}).items():
            for capability, cell in column["cells"].items():
                yield family, precision, capability, cell


def _read(path: Path) -> dict[str, Any]:
    """The stored run; in the file a reason stands once, and the cells have its number."""
    run = json.loads(path.read_text(encoding="utf-8"))
    for _, _, _, cell in _cells(run):
        cell[3] = run["reasons"][cell[3]]
    return run


def _write(run: dict[str, Any], path: Path) -> None:
    """One line a family, so that changes can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run = copy.deepcopy(run)
    numbers: dict[str, int] = {}
    for _, _, _, cell in _cells(run):
        cell[3] = numbers.setdefault(cell[3], len(numbers))
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in run["families"].items())
    reasons = ",\n".join(json.dumps(reason) for reason in numbers)
    text = f'{{"versions": {json.dumps(run["versions"])},\n"families": {{\n{lines}\n}},\n"reasons": [\n{reasons}\n]}}\n'
    path.write_text(text, encoding="utf-8")


def crashes(run: dict[str, Any]) -> list[str]:
    """Cells that ended in an error which is not the package's own."""
    version = run["versions"]["transformer-lens"]
    return [
        f"{family}, {precision}, {capability}: {cell[3]} (transformer-lens {version})"
        for family, precision, capability, cell in _cells(run)
        if cell[0] == "crash"
    ]


if __name__ == "__main__":
    sys.exit(main())
