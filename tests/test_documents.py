"""What README and the documents print is executed here, as printed."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from tl_nla.cli.evaluate import available_suites
from tl_nla.cli.main import available_commands, main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
    for page in [*PAGES, *sorted((ROOT / "docs" / "results").glob("*.md"))]:
        for command, *rest in commands(page):
            assert command in available_commands(), f"{page.name}: {command}"
            if command == "evaluate":
                assert rest[0] in available_suites(), f"{page.name}: evaluate {rest[0]}"


def test_links_lead_somewhere():
    for page in [*PAGES, *sorted((ROOT / "docs" / "results").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_tables_of_the_oracle_pages_are_those_of_the_stored_rows(monkeypatch):
    from tl_nla.evaluation import layers_suite

    spec = importlib.util.spec_from_file_location("oracle_tables", ROOT / "docs" / "oracle_tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(layers_suite, "two_explanations_rows", lambda *given: [])
    found = script.tables()
    for page in script.PAGES:
        assert script.fill(page.read_text(), found) == page.read_text(), page.name
    assert (
        script.fill("<!-- table mlp -->\nold\n<!-- end -->", found) == f"<!-- table mlp -->\n{found['mlp']}<!-- end -->"
    )
