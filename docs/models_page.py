"""The text of docs/models.md from what was measured."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from docs.models_measure import FLOAT32_LIMIT, PRECISIONS
from tl_nla.markdown import cell, escape

COLUMNS = {
    "states": "states", "parts": "parts of blocks", "heads": "heads", "direct": "direct attribution",
    "skips": "skips", "promoted": "tokens promoted", "sources": "tokens read", "report": "report",
    "steering": "steering", "generation": "generation",
}  # fmt: skip
_REASON_LIMIT = 2000
_VERDICTS = ("exact", "approximate", "partly", "refused", "crash")


class _Notes:
    """Reasons, each with a number, in the order in which they first stand in a table."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def link(self, text: str) -> str:
        """The reason's number as a link."""
        if not text:
            return ""
        kind = re.sub(r"\d[\d.e+]*%?", "0", text)  # one reason with other figures is the same reason
        self.texts.setdefault(kind, text)
        return f" [{list(self.texts).index(kind) + 1}](#reasons)"

    def table(self) -> str:
        """The reasons with their numbers."""
        shown = [escape(text, _REASON_LIMIT) for text in self.texts.values()]
        return _markdown(["", "reason"], [[str(number), text] for number, text in enumerate(shown, 1)])


def page(runs: Sequence[dict[str, Any]]) -> str:
    """The whole page; ``runs`` are those of the TransformerLens lines, the newest first."""
    notes = _Notes()
    tables = [text for name in PRECISIONS for text in (f"### {name}\n", _table(runs, name, notes))]
    parts = [_OPENING, "## How many of each\n", _counts(runs), "## Family by family\n", _READING, *tables]
    parts += ["## Reasons\n", notes.table(), "## How it was made\n", _made(runs)]
    return "\n".join(parts)


def _cells(run: dict[str, Any], precision: str) -> list[tuple[str, list[Any]]]:
    return [
        (capability, cell)
        for found in run["families"].values()
        for capability, cell in found.get("precisions", {}).get(precision, {}).get("cells", {}).items()
    ]


def _counts(runs: Sequence[dict[str, Any]]) -> str:
    """Families by verdict, one line a precision and TransformerLens line."""
    lines = []
    for precision in PRECISIONS:
        for run in runs:
            counted: dict[str, Counter[str]] = {name: Counter() for name in COLUMNS}
            for capability, found in _cells(run, precision):
                counted[capability][found[0]] += 1
            own = [" / ".join(str(counted[name][verdict]) for verdict in _VERDICTS[:4]) for name in COLUMNS]
            lines.append([precision, _line(run), *own])
    return _markdown(["precision", "TransformerLens", *COLUMNS.values()], lines)


def _line(run: dict[str, Any]) -> str:
    return run["versions"]["transformer-lens"]


def _table(runs: Sequence[dict[str, Any]], precision: str, notes: _Notes) -> str:
    names = dict.fromkeys(name for run in runs for name in run["families"])
    header = ["family", "the model's own", *COLUMNS.values()]
    lines = []
    for name in names:
        found = [(run, run["families"].get(name)) for run in runs if name in run["families"]]
        own = _joined([(run, _own(family, precision, notes)) for run, family in found])
        columns = [_joined([(run, _cell(family, precision, key, notes)) for run, family in found]) for key in COLUMNS]
        lines.append([f"`{name}`", own, *columns])
    return _markdown(header, lines)


def _joined(found: list[tuple[dict[str, Any], tuple[str, str]]]) -> str:
    """The newest line's text; another's behind it where its verdict is another one."""
    (_, (first, kind)), *others = found
    return "; ".join([first, *(f"{_line(run)}: {text}" for run, (text, own) in others if own != kind)])


def _own(family: dict[str, Any], precision: str, notes: _Notes) -> tuple[str, str]:
    """How far the model itself is from float32; in float32, how far the bridge is from Hugging Face."""
    if "not_loaded" in family:
        return f"not loaded{notes.link(family['not_loaded'])}", "none"
    column = family["precisions"][precision]
    if column["rounding"] is None:
        return f"does not run{notes.link(column['failure'])}", "fails"
    if precision == "float32":
        off = family["bridge"]
        wrong = off > FLOAT32_LIMIT
        return f"**{_percent(off)}**" if wrong else _percent(off), "wrong" if wrong else "right"
    return " to ".join(_percent(value) for value in column["rounding"]), "right"


def _cell(family: dict[str, Any], precision: str, key: str, notes: _Notes) -> tuple[str, str]:
    if "not_loaded" in family:
        return "", "none"
    verdict, error, drift, note = family["precisions"][precision]["cells"][key]
    if verdict in ("refused", "crash"):
        return f"{verdict if verdict == 'refused' else '**crash**'}{notes.link(note)}", verdict
    number = f"{error:.0e}".replace("e-0", "e-") if precision == "float32" else _percent(error)
    number = "0" if error == 0 else number
    number += "" if drift is None else f" / {_percent(drift)}"
    return f"{verdict} {number}{notes.link(note)}", verdict


def _percent(value: float) -> str:
    return "0" if value == 0 else f"{value:.1%}" if value >= 0.01 else f"{value:.2%}" if value >= 1e-4 else "<.01%"


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(cell(text) for text in row)} |\n" for row in rows)


def _made(runs: Sequence[dict[str, Any]]) -> str:
    used = "; ".join(", ".join(f"{name} {version}" for name, version in run["versions"].items()) for run in runs)
    families = max((len(run["families"]) for run in runs), default=0)
    return _MADE.format(used=used, families=families, limit=f"{FLOAT32_LIMIT:g}")


_OPENING = """\
# Which models, and how exactly

Look up your model's family here before you rely on a number. For each capability, in each precision, the page says
whether the numbers are exact, how far they are off, or why they are refused. What is refused raises `InputError` with
the reason; nothing on this page is wrong without a word. `tl_nla.check(model)` asks the same of your own model.

- Reading states, writes and heads, and steering, ask little of a model. Direct attribution needs a final norm and an
  unembedding that can be found. Skips need hook points that can be written to.
- In half precision no number can be better than the model. The column "the model's own" says how far its logits move
  when the same weights run in that precision. It is a share of the logits' range, from the usual position to the worst.
  If you need more digits, load the model in float32.
- A family that is missing here is tried in the same way when you load it. It is never known by its name.
- transformers 5.20, the last for Python 3.10, leaves Gemma 2's cap of attention scores out by default. Models that
  `tl_nla` loads keep it, and so does a TransformerBridge. If you load one yourself, give `attn_implementation="eager"`.
"""

_READING = """\
Each cell has a verdict and its largest error.

- **exact**: in float32 off by at most 1e-4. In the other precisions off by no more than the model's own rounding.
- **approximate**: given, and off by more than that.
- **partly**: exact where it is given, and refused in some layers or for some kinds of parts.
- **refused**: an `InputError`. The number leads to the reason; its figures are those of the first such model.

In float32 the one error is in logits, or (states, parts, heads, steering) a share of the stream's norm. In half
precision there are two errors, both shares. The first is against the run itself: of the model's own logit, or of a
plain run without the part. The second is against the float32 numbers of the same weights. "The model's own" is in
float32 the distance of TransformerLens's logits from those of Hugging Face; where it is bold, TransformerLens is
wrong there. Where TransformerLens 3.9 gives another verdict, it stands behind the first.
"""

_MADE = """\
`python -m docs.models`, run once in the environment of each TransformerLens line, on one thread: {used}.
{families} families, each a random model of four or five blocks, 32 channels and 64 tokens, whose gains, biases and
multipliers are all set. The stored numbers are in `docs/models/`.

What is compared, on two texts of eight tokens:

- **states**: residual states with what plain hooks of torch on the blocks show; states and blocks' writes with each
  other.
- **parts of blocks**: a block's input and the writes of its attention, other mixers, MLP and per-layer embedding, with
  its output.
- **heads**: the writes of all heads and the bias, with the write of their attention or mixer.
- **direct attribution**: the sum of all parts with the model's own logit, by components, by layers and by heads. What
  storing the stream in half precision adds has a part of its own, `rounding`.
- **skips**: the change of the target's log-probability with one part left out at one position. It is compared with a
  run in which a plain hook takes it out there. One part of each kind is run so.
- **tokens promoted**: the effects of the whole last state, with the model's logits.
- **tokens read**: the shares of all tokens that a head reads add up to one.
- **report**: `layer_contributions`, in float32 with skips; its parts' sum with its total.
- **steering**: what the next block gets, by a plain hook, with a vector added to a state and to a write.
- **generation**: greedy texts under a steering vector, with the cache and without it: the share of tokens that differ.

The limit in half precision is measured, not chosen. The same weights run in float32 and in half precision. The
largest change of any logit at a position is the model's own rounding there. Sums within one run may be off by the
usual (median) rounding. A skip is a run of its own, so it may be off by the largest. Against float32 a part may be off
by twice the rounding of its own position, or the usual one where that is larger. The reason is that a write is the
difference of two states. For states, parts, heads and steering the same holds of the stream itself, as a share of its
last norm.

`autocast` is `torch.autocast` to bfloat16 around float32 weights.
"""
