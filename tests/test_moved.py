"""Old names: each gives what stands at the new place, warns once, and names it."""

import importlib
import subprocess
import sys
import warnings

import pytest

from tl_nla import _moved

pytestmark = pytest.mark.filterwarnings("ignore:.*the old name goes with the next release:DeprecationWarning")


@pytest.fixture(autouse=True)
def _as_if_never_asked_for():
    """Old names are taken out of ``sys.modules`` again."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if _moved.new_place(name) is not None:
            del sys.modules[name]


OLD = sorted([*_moved.MODULES, "tl_nla.evaluation", "tl_nla.evaluation.results", "tl_nla.tensorboard.plugin.summary"])


@pytest.mark.parametrize("old", OLD)
def test_old_modules_are_the_new_ones(old):
    new = importlib.import_module(_moved.new_place(old))
    spec = new.__spec__
    assert importlib.import_module(old) is new
    assert new.__spec__ is spec
    assert new.__name__ == _moved.new_place(old)


def test_the_warning_names_the_new_place_and_the_line():
    """In a process of its own: the shape checker of this one stands between a call and its caller."""
    code = "import tl_nla.sites\nfrom tl_nla.data import world_documents\n"
    command = [sys.executable, "-W", "always", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    lines = [line for line in done.stderr.splitlines() if "the old name goes" in line]
    assert lines[0].startswith("<string>:1: DeprecationWarning: tl_nla.sites is now tl_nla.model.sites")
    assert lines[1].startswith("<string>:2: DeprecationWarning: tl_nla.data.world_documents is now tl_nla.storyworld.")


@pytest.mark.parametrize(("package", "name"), sorted(_moved.NAMES))
def test_old_names_of_packages(package, name):
    new = _moved.NAMES[package, name]
    with pytest.warns(DeprecationWarning, match=rf"{package}\.{name} is now {new}\.{name}"):
        found = getattr(importlib.import_module(package), name)
    assert found is getattr(importlib.import_module(new), name)


@pytest.mark.parametrize("old", sorted(_moved.STUDIES))
def test_studies_say_where_they_are(old):
    with pytest.raises(ModuleNotFoundError, match=f"docs/studies/{_moved.STUDIES[old]}"):
        importlib.import_module(old)


def test_nothing_else_is_touched():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'tl_nla\.nothing'"):
        importlib.import_module("tl_nla.nothing")
    with pytest.raises(AttributeError, match="nothing"):
        importlib.import_module("tl_nla.data").nothing  # noqa: B018
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.import_module("tl_nla.model.reading")
