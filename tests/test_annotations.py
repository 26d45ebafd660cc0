"""The check of annotations finds what is wrong, and lets through what is right."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from tests import annotations

SOURCE = '''
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from nowhere import Nothing

def typed(a: int, *more: str, b: "Box | None" = None, **rest: float) -> int:
    return "one" if a == 1 else a

def shaped(x: Float[Tensor, "rows width"], y: Float[Tensor, "rows"]) -> Float[Tensor, "width"]:
    return x[y > 0].sum(0) if y.any() else x.sum(1)

def made(number: int) -> Callable[[int], int]:
    def inner(value: int) -> int:
        return value + number
    return inner

def counted(to: int) -> Iterator[int]:
    yield from range(to)

def unknown(value: "Nothing") -> "Nothing":
    return value

@dataclass
class Box:
    """A box."""
    width: int
    inner: "Box | None" = None

    def wider(self, by: int) -> "Box":
        return Box(self.width + by, self)

@dataclass
class Other:
    width: str

class Plain:
    @classmethod
    def of(cls, width: int) -> "Plain":
        return cls()

    @property
    def width(self) -> int:
        return "wide"
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    folder = tmp_path / "annotated_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    annotations.install(["annotated_package"])
    yield importlib.import_module("annotated_package.module")
    for name in ("annotated_package.module", "annotated_package"):
        del sys.modules[name]


def test_what_fits_is_let_through(module):
    assert module.typed(2, "a", "b", b=module.Box(1), rest=0.5) == 2
    assert module.shaped(torch.ones(3, 2), torch.ones(3)).tolist() == [3, 3]
    assert [module.made(1)(2), module.made(5)(2)] == [3, 7]
    assert list(module.counted(3)) == [0, 1, 2]
    assert module.unknown(5) == 5
    assert module.Box(1).wider(2).inner == module.Box(1)
    assert module.Other("wide").width == "wide"
    assert isinstance(module.Plain.of(3), module.Plain)
    assert module.typed.__name__ == "typed"


@pytest.mark.parametrize(
    ("ask", "place"),
    [
        (lambda module: module.typed("one"), r"module\.typed: a is not"),
        (lambda module: module.typed(a="one"), r"typed: a "),
        (lambda module: module.typed(1), r"typed: the return value"),
        (lambda module: module.typed(2, "a", 3), r"typed: an argument"),
        (lambda module: module.typed(2, b=5), r"typed: b "),
        (lambda module: module.typed(2, rest="much"), r"typed: rest "),
        (lambda module: module.shaped(torch.ones(3), torch.ones(3)), r"shaped: x "),
        (lambda module: module.shaped(torch.ones(3, 2), torch.ones(2)), r"shaped: y "),
        (lambda module: module.shaped(torch.ones(3, 2), torch.zeros(3)), r"shaped: the return value"),
        (lambda module: module.shaped(torch.ones(3, 2).long(), torch.ones(3)), r"shaped: x "),
        (lambda module: module.made(1)("two"), r"made\.<locals>\.inner: value "),
        (lambda module: module.Box("wide"), r"Box\.__init__: width "),
        (lambda module: module.Box(1).wider("much"), r"Box\.wider: by "),
        (lambda module: module.Other(1), r"Other\.__init__: width "),
        (lambda module: module.Plain.of("wide"), r"Plain\.of: width "),
        (lambda module: module.Plain().width, r"Plain\.width: the return value"),
    ],
)
def test_what_does_not_fit_is_named(module, ask, place):
    with pytest.raises(TypeError, match=place):
        ask(module)


def test_a_call_that_fails_leaves_no_shapes_behind(module):
    with pytest.raises(TypeError, match="shaped: y"):
        module.shaped(torch.ones(3, 2), torch.ones(2))
    assert module.shaped(torch.ones(4, 5), torch.ones(4)).shape == (5,)


def test_calls_that_python_refuses_are_pythons(module):
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        module.made()
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        module.made(1, 2)


@pytest.mark.usefixtures("unchecked")
def test_without_the_check_anything_goes(module):
    assert module.unknown(module.made("a")("b")) == "ba"


def test_the_packages_of_this_project_are_checked():
    from tl_nla.metrics.functional import fve

    with pytest.raises(TypeError, match="fve: "):
        fve("a", "b")


def test_compiled_modules_are_kept_until_their_source_changes(module, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = Path(module.__file__)
    kept = Path(importlib.util.cache_from_source(module.__file__, optimization="annotations"))
    for source, width in ((SOURCE, None), (SOURCE, None), (f"{SOURCE}\nwidth = 5\n", 5)):
        if path.read_text() != source:
            path.write_text(source)
        found = importlib.reload(module)
        assert kept.exists()
        assert getattr(found, "width", None) == width
        with pytest.raises(TypeError, match="typed: a "):
            found.typed("one")


def test_what_was_imported_before_cannot_be_checked():
    with pytest.raises(RuntimeError, match="too early"):
        annotations.install(["torch"])
