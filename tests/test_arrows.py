"""Imports point one way: from the command line down to the model. The story world is a plug-in, studies are on top."""

import ast
import functools
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each part imports only from parts to its left; the small modules beside them are everybody's.
ORDER = ("metrics", "model", "sharing", "explainers", "data", "attribution", "nla", "oracle", "steering", "adapters",
         "faithfulness", "reports", "benchmark", "cli")  # fmt: skip
PLUG_INS = {"storyworld", "smollm2"}
EVERYBODYS = {
    "amounts",
    "errors",
    "finite",
    "http",
    "markdown",
    "notebook",
    "outputs",
    "paths",
    "plugins",
    "whole_file",
    "_lazy",
}
FILES = sorted([*ROOT.glob("tl_nla/**/*.py"), *ROOT.glob("lightning_modules/**/*.py"), *ROOT.glob("docs/**/*.py")])


def module_of(path: Path) -> str:
    """Full name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in full}
    return found


MODULES = {module_of(path) for path in FILES}


@functools.cache
def edges_of_the_project() -> dict[str, set[str]]:
    """Module -> what it imports."""
    return {module_of(path): imported(path) for path in FILES}


def part_of(name: str) -> str:
    """The part of ``tl_nla`` that a module belongs to; empty for the package itself."""
    return [*name.split("."), ""][1]


def wrong_arrows(edges: dict[str, set[str]]) -> list[str]:
    """Imports of the core that point to the right, or out of it."""
    found = []
    for module, targets in edges.items():
        here = part_of(module)
        if not module.startswith("tl_nla.") or here in PLUG_INS:
            continue
        for target in targets:
            there = part_of(target)
            if target.split(".")[0] in ("lightning_modules", "docs", "tests") or there in PLUG_INS:
                found.append(f"{module} -> {target}")
            elif target.startswith("tl_nla.") and there not in EVERYBODYS and here != there:
                right = here in EVERYBODYS or ORDER.index(there) > ORDER.index(here)
                found += [f"{module} -> {target}"] if right else []
    return sorted(found)


def test_the_core_points_one_way():
    assert wrong_arrows(edges_of_the_project()) == []


def test_a_wrong_arrow_is_found():
    for module, target in (
        ("tl_nla.attribution.skips", "tl_nla.oracle.capture"), ("tl_nla.data.documents", "tl_nla.storyworld.generator"),
        ("tl_nla.cli.evaluate", "lightning_modules.training.diff"), ("tl_nla.errors", "tl_nla.metrics"),
        ("tl_nla.benchmark.results", "docs.studies.nla.run"), ("tl_nla.model.targets", "tl_nla.smollm2.weights"),
    ):  # fmt: skip
        assert wrong_arrows({module: {target}}) == [f"{module} -> {target}"]
    assert wrong_arrows({"tl_nla.oracle.capture": {"tl_nla.attribution.skips", "tl_nla.errors", "torch"}}) == []


def test_every_part_has_a_place_in_the_order():
    parts = {part_of(module) for module in MODULES if module.startswith("tl_nla.")}
    assert parts - EVERYBODYS - PLUG_INS == set(ORDER)


@pytest.mark.parametrize("top", ["tl_nla", "lightning_modules"])
def test_nothing_imports_studies_or_tests(top):
    wrong = {module: [t for t in targets if t.split(".")[0] in ("docs", "tests")]
             for module, targets in edges_of_the_project().items() if module.split(".")[0] == top}  # fmt: skip
    assert not {module: targets for module, targets in wrong.items() if targets}


def test_plug_ins_are_found_by_name():
    wrong = [module for module, targets in edges_of_the_project().items() if module.split(".")[0] == "lightning_modules"
             and any(part_of(target) in PLUG_INS for target in targets)]  # fmt: skip
    assert wrong == []


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Circles of imports that run when modules load, as lists of modules."""
    found, state = [], {}

    def visit(module: str, trail: list[str]) -> None:
        state[module] = "open"
        for target in sorted(edges.get(module, ())):
            if state.get(target) == "open":
                found.append([*trail[trail.index(target) :], target] if target in trail else [module, target])
            elif target in edges and target not in state:
                visit(target, [*trail, target])
        state[module] = "done"

    for module in sorted(edges):
        if module not in state:
            visit(module, [module])
    return found


def at_load(path: Path) -> set[str]:
    """Modules that a file imports at its top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in full}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found - {module_of(path)}


def test_no_circles():
    assert circles({module_of(path): at_load(path) for path in FILES}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]


@pytest.mark.parametrize(
    "name", ["tl_nla", *(f"tl_nla.{part}" for part in sorted({*ORDER} - {"cli", "model"})), "lightning_modules"]
)
def test_few_names_are_public(name):
    public = importlib.import_module(name).__all__
    assert len(set(public)) == len(public) <= (25 if name == "lightning_modules" else 20)
