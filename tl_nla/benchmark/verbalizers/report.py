"""The outcome as text: Markdown for documents and TensorBoard, rich for terminals, rows of the results contract."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tl_nla.benchmark.bootstrap import Interval
from tl_nla.benchmark.results import Results, Row
from tl_nla.benchmark.verbalizers.headline import Headline
from tl_nla.benchmark.verbalizers.runner import Outcome, TaskResult
from tl_nla.markdown import table as markdown_table

if TYPE_CHECKING:
    from rich.console import Group

CHEATERS = ("cheater_quotes", "cheater_letters", "cheater_constant")
HEADLINES = ["task", "score", "best control", "its score", "gain over it", "gain over the best without the text"]


def headline_lines(outcome: Outcome) -> list[list[str]]:
    """One line a task: the verbalizer's score, the best control, and how far it is above it."""
    lines = []
    for one in outcome.tasks:
        head, blind = one.headlines["explanation"], one.beside_vectors["explanation"]
        lines.append([
            one.task, f"{one.scores['explanation'].value:.3f}", head.best, f"{one.scores[head.best].value:.3f}",
            told(head.gain), f"{told(blind.gain)} ({blind.best})",
        ])  # fmt: skip
    return lines


def score_lines(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """Header and lines of all arms' scores, a task a column."""
    arms = list(dict.fromkeys(arm for one in outcome.tasks for arm in one.scores))
    lines = [
        [arm, *(f"{one.scores[arm].value:.3f}" if arm in one.scores else "" for one in outcome.tasks)] for arm in arms
    ]
    return ["arm", *(one.task for one in outcome.tasks)], lines


def cheater_lines(outcome: Outcome) -> list[list[str]]:
    """One line a task: how far each planted cheater is from the best control."""
    return [[one.task, *(told(one.headlines[arm].gain) for arm in CHEATERS if arm in one.headlines)]
            for one in outcome.tasks]  # fmt: skip


def told(interval: Interval) -> str:
    """A value with its interval."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


Section = tuple[str, str, list[str], list[list[str]]]
"""A table: title, a sentence, header, lines."""


def sections(outcome: Outcome) -> list[Section]:
    """All tables that have a line."""
    verdict = "All are unmasked." if outcome.unmasked else "NOT all are unmasked: do not trust this run."
    has_cheaters = any(arm in one.headlines for one in outcome.tasks for arm in CHEATERS)
    agreed = [[*key.split("/"), f"{value:.2f}"] for key, value in outcome.agreement.items()]
    found: list[Section] = [
        ("Headlines", f"Whole interval above 0: {', '.join(outcome.passed) or 'none'}.", HEADLINES,
         headline_lines(outcome)),
        ("Scores", "Higher is better.", *score_lines(outcome)),
        ("Planted cheaters, gain over the best control", verdict, ["task", *CHEATERS],
         cheater_lines(outcome) if has_cheaters else []),
        ("Leak tests", "Right guesses without words; chance is 0.100.", ["task", "guessed from", "right", "leak"],
         _leak_lines(outcome)),
        ("Private codes", "A code is read by its own reader and by no plain one.", _CODES, _code_lines(outcome)),
        ("Agreement with the reader", "Share of rows with the same pick.", ["task", "words of", "other reader", "same"],
         agreed),
        ("Left out", "", ["what", "why"], [[name, why] for name, why in outcome.skipped.items()]),
    ]  # fmt: skip
    return [section for section in found if section[3]]


_CODES = [
    "arm",
    "FVE, own reader",
    "FVE, plain reader",
    "gap beyond written words",
    "own reader, words shuffled",
    "code",
]


def _leak_lines(outcome: Outcome) -> list[list[str]]:
    return [[one.task, one.test, f"{one.accuracy.value:.3f} [{one.accuracy.low:.3f}, {one.accuracy.high:.3f}]",
             "yes" if one.found else "no"] for one in outcome.leaks]  # fmt: skip


def _code_lines(outcome: Outcome) -> list[list[str]]:
    return [[one.arm, told(one.own_fve), told(one.plain_fve), told(one.excess), told(one.shuffled_fve),
             "yes" if one.suspicious else "no"] for one in outcome.codes]  # fmt: skip


def to_markdown(outcome: Outcome) -> str:
    """The whole report."""
    return markdown_page(f"{outcome.verbalizer} on {outcome.model}", outcome.notes, sections(outcome))


def markdown_page(title: str, notes: Sequence[str], tables: Sequence[Section]) -> str:
    """Tables as Markdown."""
    parts = [f"# {title}\n", *(f"{note}.\n" for note in notes)]
    for name, sentence, header, lines in tables:
        parts += [f"## {name}\n", f"{sentence}\n" if sentence else "", markdown_table(header, lines)]
    return "\n".join(part for part in parts if part)


def to_terminal(outcome: Outcome) -> "Group":
    """The headlines and everything that needs attention; scores of all arms are in the other forms."""
    from rich.console import Group
    from rich.text import Text

    tables = [one for one in sections(outcome) if one[0] not in ("Scores", "Leak tests", "Agreement with the reader")]
    leaks = [f"{one.task} from {one.test}" for one in outcome.leaks if one.found]
    told_leaks = f"Leaks: {'; '.join(leaks) or 'none found'}. {' '.join(f'{note}.' for note in outcome.notes)}"
    return Group(*terminal_tables(tables), Text(told_leaks))


def terminal_tables(tables: Sequence[Section]) -> list[Any]:
    """Tables for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown: list[Any] = []
    for title, sentence, header, lines in tables:
        table = Table(title=f"{title}. {sentence}", box=box.SIMPLE_HEAD, header_style="bold")
        for number, name in enumerate(header):
            table.add_column(Text(name), overflow="fold", no_wrap=number == 0)
        for line in lines:
            table.add_row(*map(Text, line))
        shown.append(table)
    return shown


def to_results(outcome: Outcome) -> Results:
    """The outcome in the results contract."""
    rows = [Row.of(arm, f"score/{one.task}", value) for one in outcome.tasks for arm, value in one.scores.items()]
    for one in outcome.tasks:
        rows += _gains("headline", one, one.headlines) + _gains("headline_without_text", one, one.beside_vectors)
    rows += [Row.of("empty", f"leak/{one.task}/{one.test.replace(' ', '_')}", one.accuracy) for one in outcome.leaks]
    for code in outcome.codes:
        rows += [Row.of(code.arm, "cross_reconstructor_gap_excess", code.excess), Row.of(code.arm, "fve", code.own_fve),
                 Row.of(code.arm, "fve_plain", code.plain_fve)]  # fmt: skip
    definition = {
        "verbalizer": outcome.verbalizer, "intervals": "95%, bootstrap over documents",
        "headline": "score minus that of the best control, chosen again in every drawn sample",
        "headline_without_text": "the same among controls that see no text",
        "tasks": {one.task: one.asks for one in outcome.tasks},
        "best_controls": {one.task: head.best for one in outcome.tasks for head in [one.headlines["explanation"]]},
        "passed": outcome.passed, "cheaters_unmasked": outcome.unmasked, "agreement": outcome.agreement,
        "detectors": {code.arm: dict(code.detectors) for code in outcome.codes}, "skipped": outcome.skipped,
        "notes": outcome.notes, "settings": outcome.settings, "examples": outcome.examples,
    }  # fmt: skip
    return Results("verbalizers", outcome.model, [outcome.settings["seed"]], definition, rows, outcome.seconds)


def _gains(metric: str, one: TaskResult, heads: Any) -> list[Row]:
    found: dict[str, Headline] = dict(heads)
    return [Row.of(arm, f"{metric}/{one.task}", head.gain) for arm, head in found.items()]
