import io

from rich.console import Console

from tests import zoo
from tl_nla.reports import layer_contributions
from tl_nla.reports.progress import progress


def test_a_bar_tells_stages_and_share_on_a_terminal_only():
    for terminal in (True, False):
        stream = io.StringIO()
        with progress(Console(file=stream, force_terminal=terminal, width=100)) as tell:
            tell("leaving out every layer and head", 0.5)
        assert ("50%" in stream.getvalue()) is terminal
        assert ("leaving out" in stream.getvalue()) is terminal


def test_nothing_is_shown_to_those_who_wait_less_than_the_patience():
    stream = io.StringIO()
    with progress(Console(file=stream, force_terminal=True), patience=60.0) as tell:
        tell("leaving out every layer and head", 0.5)
    assert stream.getvalue() == ""


def test_a_report_tells_its_stages_in_order(llama):
    told = []
    layer_contributions(llama, zoo.tokens(1, 9), tokenizer=zoo.tokenizer(), tell=lambda *given: told.append(given))
    stages, shares = zip(*told, strict=True)
    assert list(dict.fromkeys(stages)) == ["reading", "leaving out every layer and head", "putting into words", "done"]
    assert list(shares) == sorted(shares)
    assert shares[-1] == 1.0
