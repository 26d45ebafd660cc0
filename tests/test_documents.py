"""What README and the documents print is executed here, as printed."""

import re
import shlex
from pathlib import Path

import pytest

from docs.studies import oracle_tables
from docs.studies.__main__ import studies
from docs.studies.layers import run as layers
from tl_nla.cli.evaluate import SUITES
from tl_nla.cli.main import available_commands, main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "released").glob("*.md"))]
ALL_PAGES = [*PAGES, *sorted((ROOT / "docs" / "studies").glob("*/*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language; one whose first line says ``not run`` and why is left out."""
    found = [(info, code) for kind, info, code in BLOCK.findall(page.read_text()) if kind == language]
    return [code for info, code in found if "not run" not in info]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_runs_as_printed(page, folder):
    namespace = {"__name__": "document"}
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), namespace)  # noqa: S102


def commands(page: Path) -> list[list[str]]:
    """Arguments of every ``tl-nla`` line in a page's bash blocks."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("tl-nla ")]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "quickstart.md"], ids=lambda page: page.name)
def test_commands_run_as_printed(page, folder, capsys):
    assert commands(page)
    for arguments in commands(page):
        assert main(arguments) == 0, arguments


def test_commands_of_other_pages_exist():
    for page in ALL_PAGES:
        for command, *rest in commands(page):
            assert command in available_commands(), f"{page}: {command}"
            if command == "evaluate":
                assert rest[0] in SUITES, f"{page}: evaluate {rest[0]}"


def test_modules_and_studies_that_pages_run_exist():
    for page in ALL_PAGES:
        text = page.read_text()
        for module in re.findall(r"python -m ((?:docs|lightning_modules|tl_nla)[\w.]*)", text):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file() or module == "docs.studies", f"{page}: {module}"
        for name in re.findall(r"python -m docs\.studies ([a-z_0-9]+)", text):
            assert name in studies(), f"{page}: {name}"


def test_links_lead_somewhere():
    for page in ALL_PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


@pytest.mark.slow
def test_tables_of_the_oracle_pages_are_those_of_the_stored_rows(monkeypatch):
    monkeypatch.setattr(layers, "two_explanations_rows", lambda *given: [])
    found = oracle_tables.tables()
    for page in oracle_tables.PAGES:
        assert oracle_tables.fill(page.read_text(), found) == page.read_text(), page
    filled = oracle_tables.fill("<!-- table mlp -->\nold\n<!-- end -->", found)
    assert filled == f"<!-- table mlp -->\n{found['mlp']}<!-- end -->"
