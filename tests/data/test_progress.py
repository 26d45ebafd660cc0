"""Who listens to a long capture, and what is shown of it."""

import io

import pytest
from rich.console import Console

from tl_nla.data import progress
from tl_nla.data.progress import in_turn, listening, progress_bar, tell, told


def test_batches_are_told_to_who_listens():
    heard = []
    with listening(lambda *news: heard.append(news)):
        assert list(told([[1, 2], [3]], "reading")) == [[1, 2], [3]]
        with listening(None):
            tell("unheard")
    tell("too late")
    assert heard == [("reading", 0, 3), ("reading", 2, 3), ("reading", 3, 3)]


def test_a_failure_ends_the_listening():
    heard = []
    with pytest.raises(ValueError, match="broken"), listening(lambda *news: heard.append(news)):
        raise ValueError("broken")
    tell("too late")
    assert heard == []


@pytest.fixture
def output(monkeypatch):
    """What a console of a given kind shows."""

    def make(terminal):
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=100)
        monkeypatch.setattr("rich.console.Console", lambda **settings: console)
        return file

    return make


def test_a_terminal_has_a_bar_with_the_time_left(output):
    file = output(True)
    with progress_bar():
        tell("loading gpt2")
        list(told([[1, 2], [3]], "capturing states"))
    assert "loading gpt2" in file.getvalue()
    assert "3/3" in file.getvalue()
    assert "100%" in file.getvalue()


def test_a_file_gets_a_line_now_and_then(output, monkeypatch):
    file, clock = output(False), [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress_bar():
        for done in range(0, 101, 10):
            tell("capturing states", done, 100)
            clock[0] += 10
    lines = file.getvalue().splitlines()
    assert lines[0] == "capturing states: 0 of 100 (0%)"
    assert lines[1] == "capturing states: 30 of 100 (30%), about 70 s left"
    assert lines[-1] == "capturing states: 100 of 100 (100%)"
    assert len(lines) == 5


def test_what_was_done_before_the_first_news_counts_for_no_speed(output, monkeypatch):
    file, clock = output(False), [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress_bar():
        for done in (50, 60, 70):
            tell("step", done, 100)
            clock[0] += 40
    assert file.getvalue().splitlines() == [
        "step: 50 of 100 (50%)",
        "step: 60 of 100 (60%), about 160 s left",
        "step: 70 of 100 (70%), about 120 s left",
    ]


def test_the_outer_listener_is_the_one_that_hears(output):
    file, heard = output(True), []
    with listening(lambda *news: heard.append(news)), progress_bar():
        tell("capturing", 1, 2)
    assert heard == [("capturing", 1, 2)]
    assert file.getvalue() == ""


def test_calls_in_turn_are_told():
    heard = []
    with listening(lambda *news: heard.append(news)):
        assert in_turn([lambda: 1, lambda: 2], "scoring") == [1, 2]
    assert heard == [("scoring", 0, 2), ("scoring", 1, 2), ("scoring", 2, 2)]


def test_short_things_that_happen_again_and_again_do_not_flood_a_file(output, monkeypatch):
    file, clock = output(False), [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress_bar():
        for _ in range(10):
            list(told([[1], [2]], "reading words"))
            clock[0] += 1
    assert file.getvalue().splitlines() == ["reading words: 0 of 2 (0%)"]


def test_what_is_done_leaves_its_bar_to_the_next(output):
    file = output(True)
    with progress_bar():
        tell("loading")
        list(told([[1]], "capturing states"))
        list(told([[1], [2]], "reading words"))
        list(told([[1], [2]], "reading words"))
    *_, last = file.getvalue().split("\x1b[?25h")[0].split("capturing states")
    assert "loading" not in last
    assert "2/2" in last.rsplit("reading words", 1)[1]
