"""Everything that was benchmarked on one page, made from the JSON files of the runs."""

from collections.abc import Sequence
from pathlib import Path

from tl_nla.benchmark.results import Results, Row, read_results
from tl_nla.benchmark.verbalizers.report import Section
from tl_nla.errors import InputError

_OWN = "explanation"
_GAIN, _BLIND, _SCORE = "headline/", "headline_without_text/", "score/"


def read_boards(paths: Sequence[str | Path]) -> list[Results]:
    """Read the ``--json`` files of benchmark runs.

    Raises:
        InputError: for a file of another suite, or one that no ``tl-nla benchmark`` wrote.
    """
    found = []
    for path in paths:
        results = read_results(path)
        if results.suite != "verbalizers" or "verbalizer" not in results.definition:
            raise InputError(f"{str(path)!r} was not written by `tl-nla benchmark --json`; leave it out")
        found.append(results)
    return found


def leaderboard(boards: Sequence[Results]) -> list[Section]:
    """One table over all verbalizers, then one of gains for each group of runs with the same tasks.

    Verbalizers stand by the mean gain over the best control, the highest first.

    Args:
        boards: results of runs.

    Example:
        >>> sections = leaderboard(read_boards(["tiny.json", "smollm2.json"]))
    """
    groups: dict[tuple[str, ...], list[Results]] = {}
    for one in sorted(boards, key=_mean_gain, reverse=True):
        groups.setdefault(tuple(one.definition["tasks"]), []).append(one)
    header = ["what", "model", "above the best control", "above the best without the text", "mean gain", "cheaters",
              "texts"]  # fmt: skip
    lines = [_line(one) for group in groups.values() for one in group]
    found: list[Section] = [("Leaderboard", "A task counts when its whole interval lies above 0.", header, lines)]
    for number, (tasks, group) in enumerate(groups.items(), 1):
        names = [f"{one.definition['verbalizer']} on {one.model}" for one in group]
        rows = [[task, *(_told(one, task) for one in group)] for task in tasks]
        sentence = "Score; gain over the best control, which is named; gain over the best one that sees no text."
        found.append((f"Tasks, group {number}", sentence, ["task", *names], rows))
    return found


def _line(one: Results) -> list[str]:
    gains, blind = _passed(one, _GAIN), _passed(one, _BLIND)
    settings, all_tasks = one.definition["settings"], len(one.definition["tasks"])
    return [
        str(one.definition["verbalizer"]), one.model, f"{len(gains)} of {all_tasks}", f"{len(blind)} of {all_tasks}",
        f"{_mean_gain(one):+.3f}", "unmasked" if one.definition["cheaters_unmasked"] else "NOT unmasked",
        f"{settings['rows']} rows, {settings['documents']} documents, seed {settings['seed']}",
    ]  # fmt: skip


def _told(one: Results, task: str) -> str:
    score, gain, blind = (_row(one, f"{start}{task}") for start in (_SCORE, _GAIN, _BLIND))
    best = one.definition["best_controls"].get(task, "")
    return f"{_value(score)}; {_interval(gain)} {best}; {_interval(blind)}"


def _row(one: Results, metric: str) -> Row | None:
    return next((row for row in one.rows if row.arm == _OWN and row.metric == metric), None)


def _value(row: Row | None) -> str:
    return "–" if row is None else f"{row.value:.2f}"


def _interval(row: Row | None) -> str:
    if row is None or row.ci_low is None or row.ci_high is None:
        return "–"
    return f"{row.value:+.2f} [{row.ci_low:+.2f}, {row.ci_high:+.2f}]"


def _passed(one: Results, start: str) -> list[str]:
    return [row.metric for row in one.rows
            if row.arm == _OWN and row.metric.startswith(start) and (row.ci_low or 0) > 0]  # fmt: skip


def _mean_gain(one: Results) -> float:
    gains = [row.value for row in one.rows if row.arm == _OWN and row.metric.startswith(_GAIN)]
    return sum(gains) / max(1, len(gains))
