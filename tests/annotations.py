"""Checks the annotations of whole packages while the tests run: types with beartype, shapes with jaxtyping.

jaxtyping's own import hook writes and compiles two checkers for every function, also for each closure that a call
makes anew, and binds the arguments of each call. A third of the time of the suite went there. Here a hint is compiled
once, and the hints of a function are looked up when it is first called. As with that hook, the letters in the shapes
of one call must agree with each other.
"""

import ast
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import marshal
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import jaxtyping
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation

_NAME = "_annotations_checked"
_one_call = jaxtyping.jaxtyped("context")


def checked(thing: Any) -> Any:
    """The function, or the dataclass with its ``__init__``, with its annotations checked at each call."""
    if isinstance(thing, type):
        if "__dataclass_fields__" in vars(thing) and not hasattr(thing.__init__, "__wrapped__"):
            thing.__init__ = checked(thing.__init__)
        return thing
    if not thing.__annotations__:
        return thing

    hints: _Hints | None = None

    @functools.wraps(thing)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal hints
        if jaxtyping.config.jaxtyping_disable:
            return thing(*args, **kwargs)
        hints = hints or _hints_of(thing)
        if not hints.shaped:  # the letters of shapes belong to the call that has them
            return _called(thing, args, kwargs, hints)
        with _one_call:
            return _called(thing, args, kwargs, hints)

    return call


def _called(thing: Callable, args: tuple, kwargs: dict[str, Any], hints: "_Hints") -> Any:
    hints.check(thing, args, kwargs)
    found = thing(*args, **kwargs)
    if hints.returned is not None:
        _check(thing, "the return value", found, hints.returned)
    return found


class _Hints:
    """The checkers of a function's annotations, ``None`` where anything is allowed."""

    def __init__(self, function: FunctionType) -> None:
        code = function.__code__
        resolved = {name: _resolved(hint, function) for name, hint in function.__annotations__.items()}
        hints = {name: _checker(hint) for name, hint in resolved.items()}
        self.shaped = any(map(_has_shapes, resolved.values()))
        named = code.co_argcount + code.co_kwonlyargcount
        positional, keywords = bool(code.co_flags & inspect.CO_VARARGS), bool(code.co_flags & inspect.CO_VARKEYWORDS)
        more = list(code.co_varnames[named : named + positional + keywords])
        ordered = enumerate(code.co_varnames[: code.co_argcount])
        self.count = code.co_argcount
        self.ordered = [(place, name, hints[name]) for place, name in ordered if hints.get(name) is not None]
        self.named = {name: hints.get(name) for name in code.co_varnames[:named]}
        self.more_ordered = hints.get(more.pop(0)) if positional else None
        self.more_named = hints.get(more.pop(0)) if keywords else None
        self.returned = hints.get("return")

    def check(self, function: FunctionType, args: tuple, kwargs: dict[str, Any]) -> None:
        """What does not fit the parameters is left to the call itself."""
        for place, name, checker in self.ordered:
            if place < len(args):
                _check(function, name, args[place], checker)
        if self.more_ordered is not None:
            for value in args[self.count :]:
                _check(function, "an argument", value, self.more_ordered)
        for name, value in kwargs.items():
            checker = self.named.get(name, self.more_named)
            if checker is not None:
                _check(function, name, value, checker)


# A closure is made anew at each call of the function around it; its annotations stay the same.
_known: dict[tuple[str, str, int], _Hints] = {}


def _hints_of(function: FunctionType) -> _Hints:
    place = (function.__module__, function.__qualname__, function.__code__.co_firstlineno)
    if place not in _known:
        _known[place] = _Hints(function)
    return _known[place]


def _resolved(hint: Any, function: FunctionType) -> Any:
    """The hint without strings; anything where a name is known to type checkers only."""

    def probe() -> None: ...

    probe.__annotations__ = {"hint": hint}
    try:
        return typing.get_type_hints(probe, function.__globals__, include_extras=True)["hint"]
    except NameError:
        return Any


def _has_shapes(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    parts = typing.get_args(hint)
    return any(_has_shapes(one) for part in parts for one in (part if isinstance(part, list) else [part]))


@functools.cache
def _checker(hint: Any) -> Callable | None:
    if hint in (Any, object, typing.NoReturn):
        return None

    def check(value): ...

    check.__annotations__ = {"value": hint}
    return beartype(check)


def _check(function: Callable, name: str, value: Any, checker: Callable) -> None:
    try:
        checker(value)
    except BeartypeCallHintViolation as error:
        place = f"{function.__module__}.{function.__qualname__}"
        raise TypeError(f"{place}: {name} is not what its annotation says: {error}") from None


class _Decorate(ast.NodeTransformer):
    """Puts the decorator below all others of a function, and above those of a class (``@dataclass`` goes first)."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.decorator_list.append(ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.decorator_list.insert(0, ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        return node


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compiled once a version of the file, and kept beside Python's own compiled files."""
        path = self.get_filename(fullname)
        kept, about = Path(importlib.util.cache_from_source(path, optimization="annotations")), self._about(path)
        try:
            found = kept.read_bytes()
        except OSError:
            found = b""
        if found.startswith(about):
            return marshal.loads(found[len(about) :])  # noqa: S302 (our own file)
        code = compile(_Decorate().visit(ast.parse(self.get_data(path), path)), path, "exec", dont_inherit=True)
        if not sys.dont_write_bytecode:
            self.set_data(str(kept), about + marshal.dumps(code))  # whole or not at all; a folder may be read-only
        return code

    def _about(self, path: str) -> bytes:
        """What a kept file has to begin with: the version of Python, of this file, and of the source."""
        seen = [os.stat(each) for each in (__file__, path)]
        return importlib.util.MAGIC_NUMBER + repr([path, *((each.st_mtime_ns, each.st_size) for each in seen)]).encode()

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[_NAME] = checked
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = tuple(packages)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if not f"{fullname}.".startswith(tuple(f"{package}." for package in self.packages)):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install(packages: Sequence[str]) -> None:
    """Check everything that is imported from these packages from now on."""
    early = [package for package in packages if package in sys.modules]
    if early:
        raise RuntimeError(f"{early} are imported already, too early to be checked")
    sys.meta_path.insert(0, _Finder(packages))
