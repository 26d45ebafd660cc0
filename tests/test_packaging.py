"""What the code imports is declared, and every module is reachable from the packages' names."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")  # in Python from 3.11 on

ROOT = Path(__file__).parent.parent
PACKAGES = ("tl_nla", "lightning_modules")
NAMES = {"yaml": "pyyaml"}
"""Distributions that are not called what is imported."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def imported() -> dict[str, str]:
    """Distribution -> one of the files that import it; everything that comes with Python left out."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES):
                    found.setdefault(NAMES.get(top, top.replace("_", "-")), str(path.relative_to(ROOT)))
    return found


def names_of(requirements) -> set[str]:
    return {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in requirements}


def test_every_import_is_declared():
    extras = PROJECT["optional-dependencies"]
    declared = names_of(PROJECT["dependencies"])
    optional = set().union(*(names_of(extras[name]) for name in ("cli", "lora", "plots", "int8", "nf4", "peers")))
    missing = {name: path for name, path in imported().items() if name not in declared | optional}
    assert not missing
    assert not declared & optional


def test_every_requirement_is_imported():
    assert not names_of(PROJECT["dependencies"]) - set(imported())


def test_the_tested_versions_fit_what_is_declared():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = names_of(line for line in lines if "==" in line and not line.startswith("#"))
    assert not names_of(PROJECT["dependencies"]) - pinned


ALONE = """
import os, sys, lightning, torch, transformer_lens, transformers  # once for all of them
for name in [name for name in sys.modules if name.partition(".")[0] in {packages}]:
    raise SystemExit(name + " was imported too early")
for program in {programs}:
    child = os.fork()
    if not child:
        exec(program)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(1)
"""


def test_every_module_and_every_name_that_a_guide_writes_is_reachable_by_attribute():
    """Each package in a process that has imported nothing of ours."""
    programs = []
    for package in PACKAGES:
        parts = sorted(
            path.stem for path in (ROOT / package).iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py"
        )
        lines = [f"import {package}", f"assert not hasattr({package}, 'no_such_part')"]
        lines += [f"assert {package}.{part}.__name__ == '{package}.{part}'" for part in parts if part[0] != "_"]
        assert len(lines) >= 10
        programs.append("\n".join(lines))
    pages = [ROOT / "README.md", *(page for page in (ROOT / "docs").rglob("*.md") if page.name != "upgrade.md")]
    names = {name for page in pages for name in re.findall(r"\btl_nla(?:\.\w+)+", page.read_text(encoding="utf-8"))}
    assert {"tl_nla.adapters.DiffAdapter", "tl_nla.nla.adaptation.adapt"} <= names
    programs.append("\n".join(["import tl_nla", *sorted(names)]))
    code = ALONE.format(packages=PACKAGES, programs=programs)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
