"""A run that native code aborted is done once more; every other failure counts at once."""

import os
from pathlib import Path

import pytest

from tests.lightning_modules.forks import Aborted, finished, in_a_clean_process, in_a_fork, wait


def aborts_first(folder: Path) -> bool:
    mark = folder.parent / "mark"
    if mark.exists():
        return wait([in_a_fork(lambda: None)])
    mark.touch()
    return wait([in_a_fork(lambda: None), in_a_fork(os.abort)])


def aborts(folder: Path) -> bool:
    return wait([in_a_fork(os.abort)])


def fails(folder: Path) -> bool:
    with (folder.parent / "runs").open("a") as runs:
        runs.write("x")
    return wait([in_a_fork(lambda: 1 / 0)])


@pytest.mark.slow
def test_an_aborted_run_is_done_once_more(tmp_path_factory, capsys):
    folder = finished(aborts_first, tmp_path_factory, "aborted")
    assert "run once more" in capsys.readouterr().err
    assert folder.name == "aborted1"


@pytest.mark.slow
def test_a_run_that_is_aborted_twice_fails(tmp_path_factory):
    with pytest.raises(Aborted):
        finished(aborts, tmp_path_factory, "always")


@pytest.mark.slow
def test_any_other_failure_counts_at_once(tmp_path_factory):
    with pytest.raises(AssertionError):
        finished(fails, tmp_path_factory, "failed")
    assert (tmp_path_factory.getbasetemp() / "runs").read_text() == "x"


@pytest.mark.slow
def test_work_that_raises_is_told(tmp_path):
    with pytest.raises(AssertionError, match="test_forks failed"):
        in_a_clean_process(fails_itself, tmp_path)


def fails_itself(folder: Path) -> bool:
    raise ValueError(folder)
