"""Writes the tables of the studies on SmolLM2 anew from their stored rows.

    python -m docs.studies.real_pages

A table stands between ``<!-- table all -->`` and ``<!-- end -->``.
"""

import importlib
import sys
from pathlib import Path

from docs.studies.lines import read_lines
from docs.studies.oracle_tables import fill

STUDIES = ("smollm2_steering", "smollm2_diffs", "smollm2_layers", "smollm2_faithfulness",
           "smollm2_injection", "smollm2_questions", "smollm2_steganography")  # fmt: skip


def page_of(study: str) -> Path:
    """The page of a study."""
    return Path(__file__).parent / study / "README.md"


def tables_of(study: str) -> dict[str, str]:
    """The tables of a study from its stored rows."""
    rows = read_lines(importlib.import_module(f"docs.studies.{study}.run").ROWS)
    return {"all": importlib.import_module(f"docs.studies.{study}.table").as_markdown(rows)}


def main() -> None:
    """Fill all pages."""
    for study in STUDIES:
        page = page_of(study)
        page.write_text(fill(page.read_text(encoding="utf-8"), tables_of(study)), encoding="utf-8")
        sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    main()
