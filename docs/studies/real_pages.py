"""Writes the tables of the studies on SmolLM2 anew from their stored rows.

    python -m docs.studies.real_pages

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; a study with one table calls it ``all``.
"""

import importlib
import sys
from pathlib import Path

from docs.studies.lines import read_lines
from docs.studies.oracle_tables import fill

STUDIES = ("smollm2_steering", "smollm2_diffs", "smollm2_layers", "smollm2_faithfulness",
           "smollm2_injection", "smollm2_words", "smollm2_questions", "smollm2_steganography")  # fmt: skip


def page_of(study: str) -> Path:
    """The page of a study."""
    return Path(__file__).parent / study / "README.md"


def tables_of(study: str) -> dict[str, str]:
    """The tables of a study from its stored rows."""
    rows = read_lines(page_of(study).parent / "rows" / "rows.jsonl")
    made = importlib.import_module(f"docs.studies.{study}.table")
    return dict(made.tables(rows)) if hasattr(made, "tables") else {"all": made.as_markdown(rows)}


def main() -> None:
    """Fill all pages."""
    for study in STUDIES:
        page = page_of(study)
        page.write_text(fill(page.read_text(encoding="utf-8"), tables_of(study)), encoding="utf-8")
        sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    main()
