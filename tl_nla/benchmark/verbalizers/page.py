"""The outcome as one HTML file that needs nothing else, and as text in TensorBoard."""

from collections.abc import Sequence
from html import escape
from typing import Any

from tl_nla.benchmark.verbalizers.report import Section, sections, to_markdown
from tl_nla.benchmark.verbalizers.runner import Outcome

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}"
    "td,th{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#444}}"
)


def to_html(outcome: Outcome) -> str:
    """A page with every table."""
    examples = "".join(f"<blockquote>{escape(text)}</blockquote>" for text in outcome.examples)
    title = f"{outcome.verbalizer} on {outcome.model}"
    return html_page(title, outcome.notes, sections(outcome), f"<h2>Examples</h2>{examples}")


def html_page(title: str, notes: Sequence[str], tables: Sequence[Section], end: str = "") -> str:
    """Tables as one HTML page.

    Args:
        title: of the page.
        notes: sentences without their full stop.
        tables: to be shown.
        end: HTML behind them.
    """
    title = escape(title)
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(note)}.</p>" for note in notes)]
    for name, sentence, header, lines in tables:
        head = "".join(f"<th>{escape(text)}</th>" for text in header)
        rows = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in line) + "</tr>" for line in lines)
        body += [f"<h2>{escape(name)}</h2>", f"<p>{escape(sentence)}</p>", f"<table><tr>{head}</tr>{rows}</table>"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style><body>{''.join(body)}{end}</body></html>\n"
    )


def log_outcome(writer: Any, outcome: Outcome, step: int = 0) -> None:
    """Write the report and the headlines to TensorBoard.

    Args:
        writer: a ``SummaryWriter``, or anything with ``add_text`` and ``add_scalar``.
        outcome: what was found.
        step: at which step.
    """
    writer.add_text(f"benchmark/{outcome.verbalizer}", to_markdown(outcome), step)
    for one in outcome.tasks:
        writer.add_scalar(f"benchmark/gain/{one.task}", one.headlines["explanation"].gain.value, step)
        writer.add_scalar(f"benchmark/score/{one.task}", one.scores["explanation"].value, step)
