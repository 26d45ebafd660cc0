"""The site leaves no page out, and the reference finds what every public name stands for."""

import importlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]


def test_every_page_and_notebook_is_in_the_navigation():
    folder = ROOT / "docs"
    pages = [path.relative_to(folder).as_posix() for kind in ("*.md", "*.ipynb") for path in folder.rglob(kind)]
    assert "quickstart.md" in pages
    missing = [page for page in pages if f" {page}\n" not in NAV]
    assert not missing, "add these pages to nav in mkdocs.yml"


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="`make docs` installs mkdocs")
def test_the_reference_has_every_public_name_where_it_is_defined():
    from docs.site_pages import REFERENCE, homes, moved, origin

    for package in REFERENCE:
        module = importlib.import_module(package)
        assert set(homes(package)) >= {name for name in module.__all__ if callable(getattr(module, name))}, package
        for name in homes(package):
            home, _, last = origin(package, name).rpartition(".")
            assert getattr(importlib.import_module(home), last) is getattr(module, name)
    assert moved("[a](docs/faq.md) [b](CHANGELOG.md#x)") == "[a](faq.md) [b](changes.md#x)"


def test_notebooks_are_small_and_have_outputs():
    notebooks = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
    assert len(notebooks) == 6
    for path in notebooks:
        text = path.read_text(encoding="utf-8")
        assert '"output_type"' in text, f"{path.name}: run make notebooks"
        assert len(text) < 300_000
        assert "Traceback" not in text
