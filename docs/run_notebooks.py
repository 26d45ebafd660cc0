"""Execute the notebooks and keep their outputs: ``make notebooks``.

Each runs in an empty folder of its own, with the kernel of this environment, and may take ``LIMIT`` seconds.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent / "notebooks"
LIMIT = 60
LARGEST = 300_000
"""Bytes that a notebook may have with its outputs."""


def execute(path: Path, slower: float = 1.0) -> float:
    """Execute a notebook and write it back with its outputs.

    Args:
        path: the notebook.
        slower: factor by which this machine is slower than a quiet one; it multiplies the limit.

    Returns:
        Seconds that the cells took, the start of the kernel left out.

    Raises:
        RuntimeError: when it took longer than allowed, or is too large with its outputs.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as scratch:
        client = NotebookClient(
            notebook, timeout=int(LIMIT * slower), kernel_name="python3", resources={"metadata": {"path": scratch}}
        )
        with client.setup_kernel():
            began = time.monotonic()
            for place, cell in enumerate(notebook.cells):
                client.execute_cell(cell, place)
            took = time.monotonic() - began
    for cell in notebook.cells:
        _tidy(cell)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    text = nbformat.writes(notebook) + "\n"
    if took > LIMIT * slower:
        raise RuntimeError(f"{path.name} took {took:.0f} seconds; at most {LIMIT * slower:.0f} are allowed")
    if len(text) > LARGEST:
        raise RuntimeError(f"{path.name} has {len(text)} bytes with its outputs; at most {LARGEST} are allowed")
    path.write_text(text, encoding="utf-8")
    return took


def _tidy(cell: nbformat.NotebookNode) -> None:
    """Leave out what differs from run to run: times, and what libraries write to standard error."""
    cell.metadata = {}
    if cell.cell_type == "code":
        cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]


def main() -> int:
    """Execute all notebooks, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as attach; all when none is given")
    parser.add_argument("--slower", type=float, default=1.0, help="multiplies the limit, on a busy machine")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent.parent), os.environ.get("PYTHONPATH", "")])
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not arguments.names or path.stem in arguments.names:
            sys.stdout.write(f"{path.name}: {execute(path, arguments.slower):.0f} s\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
