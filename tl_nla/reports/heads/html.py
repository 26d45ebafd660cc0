"""Head cards as one HTML page: no network, every text escaped, sorted by a click."""

import base64
import hashlib
from html import escape as escaped

from tl_nla.markdown import show, visible
from tl_nla.reports.heads.card import Card, Example, HeadCards
from tl_nla.reports.heads.kinds import MEANINGS, THRESHOLDS
from tl_nla.reports.heads.text import cells, number, sentences, signed

_NUMBERS = ("layer", *THRESHOLDS, "fve", "skip_kl", "direct")
_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;color:#222;background:#fff}
table{border-collapse:collapse}
th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;vertical-align:top;text-align:left}
th button{font:inherit;font-weight:600;border:0;background:none;cursor:pointer;padding:0;text-align:left}
th[aria-sort=ascending] button::after{content:" ▲"}th[aria-sort=descending] button::after{content:" ▼"}
td.n{text-align:right;font-variant-numeric:tabular-nums}thead th{position:sticky;top:0;background:#fff}
details{max-width:60rem}mark{background:#ffe9a8}.up{color:#176b2c}.down{color:#a3243b}small{color:#666}
"""
_SCRIPT = """
const table = document.querySelector("table"), body = table.tBodies[0];
for (const button of table.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, place = head.cellIndex, down = head.getAttribute("aria-sort") !== "descending";
  const value = row => {
    const cell = row.cells[place], number = cell.dataset.v;
    return number === undefined ? cell.textContent : number === "" ? -Infinity : Number(number);
  };
  const order = (x, y) => (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  const rows = [...body.rows].sort((a, b) => order(value(a), value(b)));
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
});
document.querySelector("input").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase();
  for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
"""


def page(cards: HeadCards) -> str:
    """The whole page."""
    heads = ["head", "kind", *_NUMBERS[1:], "card"]
    buttons = "".join(f'<th scope="col"><button type="button">{_safe(name)}</button></th>' for name in heads)
    meaning = "".join(f"<li><b>{_safe(name)}</b> (from {least:g} on): {_safe(MEANINGS[name])}</li>"
                      for name, least in THRESHOLDS.items())  # fmt: skip
    notes = "".join(f"<li>{_safe(note)}</li>" for note in cards.notes)
    facts = (f"{len(cards)} heads, {cards.facts['documents']} documents of {cards.facts['tokens']} tokens, "
             f"{cards.facts['heldout_documents']} held out")  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'\"><title>Heads of {_safe(cards.model)}</title>"
        f"<style>{_STYLE}</style></head><body>"
        f"<h1>Heads of {_safe(cards.model)}</h1><p>{_safe(facts)}. A click on a column sorts.</p>"
        f'<p><label>Filter <input type="search" placeholder="a kind or a word"></label></p>'
        f"<details><summary>What the columns mean</summary><ul>{meaning}"
        "<li><b>fve</b>: what a linear reader of a write's words gives back on held-out documents, beside the head's "
        "own mean write</li><li><b>skip_kl</b>: KL (nats) when the head is left out at one position</li>"
        "<li><b>direct</b>: size of what it writes into the next token's log-probability</li></ul></details>"
        f"{f'<ul>{notes}</ul>' if notes else ''}<table><thead><tr>{buttons}</tr></thead><tbody>"
        f"{''.join(map(_row, cards.cards))}</tbody></table><script>{_SCRIPT}</script></body></html>\n"
    )


def _row(card: Card) -> str:
    place = card.layer * 10_000 + card.head
    values = "".join(_number(card.value(name), "{:.4f}" if name in ("skip_kl", "direct") else "{:.2f}")
                     for name in _NUMBERS[1:])  # fmt: skip
    said = "".join(f"<li>{_safe(text)}</li>" for text in sentences(card))
    examples = "".join(map(_example, card.examples))
    short = cells(card)
    return (
        f'<tr><td data-v="{place}">{_safe(card.name)}</td><td>{_safe(", ".join(card.kinds) or card.kind)}</td>{values}'
        f"<td><details><summary>{_safe(short[4])}</summary><ul>{said}</ul><ol>{examples}</ol></details></td></tr>"
    )


def _number(value: float | None, form: str) -> str:
    exact = "" if value is None else f"{value:.9g}"
    return f'<td class="n" data-v="{exact}">{number(value, form)}</td>'


def _example(one: Example) -> str:
    read = ", ".join(f"{show(text)} ({back} back, {share:.0%})" for text, back, share in one.sources) or "little"
    return (
        f"<li>…{_safe(one.before)}<mark>{_safe(show(one.token))}</mark><br><small>read {_safe(read)}; wrote "
        f'<span class="up">{_safe(signed(one.up, ()))}</span> <span class="down">{_safe(signed((), one.down))}</span>'
        "</small></li>"
    )


def _hash(text: str) -> str:
    """What a page's policy knows its own script and style by, so that no others run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _safe(text: str) -> str:
    return escaped(visible(text), quote=True)
