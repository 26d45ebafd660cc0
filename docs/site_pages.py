"""Hooks of ``mkdocs.yml``: pages that lie outside of ``docs/``, and the reference of the public names.

The reference is written from the packages' own lists of names, found without importing anything. So a name that is
added to a package is on the site without being listed a second time.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
REFERENCE = {
    "tl_nla": "Everything that most people need, by its shortest name.",
    "tl_nla.adapters": "What you attach to a model with `tl_nla.attach`.",
    "tl_nla.nla": "Verbalizer, reconstructor, the pair of both, activation oracles.",
    "tl_nla.oracle": "The diff oracle: labels of writes, a verbalizer that says them, a reconstructor.",
    "tl_nla.attribution": "Numbers of every part of a model: direct attribution and skips.",
    "tl_nla.reports": "Contribution reports: numbers and words together.",
    "tl_nla.steering": "Rewriters of explanations and steering vectors.",
    "tl_nla.faithfulness": "Whether the words can be believed.",
    "tl_nla.metrics": "FVE, cosine, recall: plain functions and torchmetrics objects.",
    "tl_nla.explainers": "What writes the texts that verbalizers are trained on.",
    "tl_nla.data": "Documents and captured states.",
    "tl_nla.benchmark": "Scores with controls and intervals.",
    "lightning_modules": "Data modules, trainings and callbacks for the Lightning `Trainer`.",
}
_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):<code>[~]?([^<]+)</code>")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of ``docs/`` and the reference."""
    for name, place in OUTSIDE.items():
        files.append(File.generated(config, place, content=moved((ROOT / name).read_text(encoding="utf-8"))))
    for package, what in REFERENCE.items():
        files.append(File.generated(config, f"reference/{package}.md", content=reference(package, what)))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Show names that docstrings mark with Sphinx's roles as plain code."""
    return _ROLE.sub(r"<code>\1</code>", html)


def moved(text: str) -> str:
    """A page of the root as a page of ``docs/``: its links lead to the same places."""
    text = text.replace("](docs/", "](").replace("](docs)", "](index.md)")
    for name, place in OUTSIDE.items():
        text = text.replace(f"]({name}", f"]({place}")
    return text


def reference(package: str, what: str) -> str:
    """The reference page of a package: each public name with its signature and docstring."""
    parts = [f"# `{package}`\n\n{what}\n"]
    for name in sorted(homes(package)):
        parts.append(f"::: {origin(package, name)}\n")
    return "\n".join(parts)


def homes(package: str) -> dict[str, str]:
    """Public name -> module that the package takes it from."""
    tree = ast.parse(_file(package).read_text(encoding="utf-8"))
    found, public = {}, set()
    for name, value in _assignments(tree):
        if name == "__getattr__" and isinstance(value, ast.Call) and isinstance(value.args[-1], ast.Dict):
            value = value.args[-1]  # lazy(__name__, {...})
        if name in ("_HOMES", "__getattr__") and isinstance(value, ast.Dict):
            found |= ast.literal_eval(value)
            public |= set(found)
        elif name == "__all__" and isinstance(value, ast.List):
            public |= set(ast.literal_eval(value))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: node.module for alias in node.names}
    full = {name: home if _file(home).exists() else f"{package}.{home}" for name, home in found.items()}
    return {name: home for name, home in full.items() if name in public}


def origin(package: str, name: str) -> str:
    """Full path of what a public name stands for: the module that defines it."""
    module = package
    while _file(module).name == "__init__.py" and name in homes(module):
        module = homes(module)[name]
    return f"{module}.{name}"


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and getattr(node, "value", None) is not None:
            yield target.id, node.value  # type: ignore[attr-defined]


def _file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
