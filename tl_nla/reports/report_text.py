"""The contribution report as Markdown that no model text can break."""

from tl_nla.markdown import escape, show
from tl_nla.reports.report import Cell, ContributionReport

TEXT_LIMIT = 200_000
"""Longest text of a whole document in characters."""
_FEWEST = 20
"""Rows that a position gets where not all of them fit."""


def markdown(
    report: ContributionReport, positions: list[int] | None = None, max_rows: int = 200, narrow: bool = False
) -> str:
    """Tables of the report, one for each position.

    Args:
        report: the report.
        positions: which of its positions; all when ``None``.
        max_rows: most rows over all tables. Where there are more, the last positions are told of, each by its strongest
            parts; how many rows were left out is told.
        narrow: all numbers of a row in one cell. TensorBoard's text page breaks short words to give long columns room,
            and a number broken in two reads as another number.

    Returns:
        Markdown with a blank line before every table, at most ``TEXT_LIMIT`` characters.
    """
    warned = [f"**{escape(report.warning)}**"] if report.warning else []
    parts = [*warned, f"**Model** {escape(report.model)}, {report.n_layers} layers with {report.n_heads} heads. "
             f"Direct: what a part adds to the {_QUANTITY[report.target_kind]}. Skip: what changes when the part is "
             "left out at this position only.",
             f"**Prompt** {escape(report.prompt, 2000)}",
             *(f"**Note** {escape(note)}" for note in report.notes)]  # fmt: skip
    tables = {position: _worth_a_row(report, position) for position in positions or report.positions}
    rows = sum(len(cells) for cells in tables.values())
    if rows > max_rows:
        each = max(min(_FEWEST, max_rows), max_rows // len(tables))
        last = list(tables)[-max(1, max_rows // each) :]
        tables = {position: _strongest(tables[position], each) for position in last}
        told = sum(len(cells) for cells in tables.values())
        parts.append(
            f"**The strongest parts** of each position, at {len(last)} positions; {rows - told} more rows are in the "
            "report's JSON."
        )
    head = _NARROW_HEAD if narrow else _HEAD
    for position, cells in tables.items():
        parts.append("\n".join([_heading(report, position), "", *head, *(_row(cell, narrow) for cell in cells)]))
    return _cut("\n\n".join(parts))


_QUANTITY = {"logit": "logit", "difference": "logit difference", "log_prob": "log-probability"}
_HEAD = (
    "| part | direct | skip KL | Δ log p | flips | read | explanation |",
    "| :-- | --: | --: | --: | :-: | :-- | :-- |",
)
_NARROW_HEAD = ("| part | effect | read | explanation |", "| :-- | :-- | :-- | :-- |")
_WIDEN = "\u00a0" * 14
"""Room for the column of names, which the page would otherwise break in the middle of a word."""


def _worth_a_row(report: ContributionReport, position: int) -> list[Cell]:
    constant = ("bias", "rounding")
    cells = _order(report, position)
    return [cell for cell in cells if cell.component not in constant or abs(cell.direct) >= 5e-3]


def _strongest(cells: list[Cell], count: int) -> list[Cell]:
    """The parts, not the sums of parts, that matter most, the strongest first."""
    parts = [cell for cell in cells if cell.component not in ("block", "attn", "mixer")] or cells
    largest = max((abs(cell.direct) for cell in parts), default=0.0) or 1.0
    widest = max((cell.skip_kl or 0.0 for cell in parts), default=0.0) or 1.0
    size = lambda cell: max(abs(cell.direct) / largest, (cell.skip_kl or 0.0) / widest)  # noqa: E731
    return sorted(parts, key=size, reverse=True)[:count]


def _order(report: ContributionReport, position: int) -> list[Cell]:
    """Embedding, then every layer's block with its parts, the strongest head first, then the biases."""
    cells = report.at(position)
    kinds = ("embed", "block", "attn", "mixer", "head", "mlp", "ple", "rounding", "bias")
    return sorted(cells, key=lambda cell: (cell.layer, kinds.index(cell.component), -(cell.skip_kl or 0.0)))


def _heading(report: ContributionReport, position: int) -> str:
    index = report.positions.index(position)
    likely = ", ".join(f"{escape(show(word))} {p:.0%}" for word, p in report.predictions[index])
    against = f" against {escape(show(report.against[index]))}" if report.against else ""
    return (
        f"**Position {position}** {escape(show(report.tokens[position]))}: target {escape(show(report.targets[index]))}"
        f"{against}, {_QUANTITY[report.target_kind]} {report.totals[index]:.3f} "
        f"(sum of parts {report.sum_of_parts(position):.3f}{_unaccounted(report, index)}); predicted {likely}"
    )


def _unaccounted(report: ContributionReport, index: int) -> str:
    if index >= len(report.unaccounted):
        return ""
    return f", unaccounted {report.unaccounted[index]:+.2g}, {report.unaccounted_share[index]:.2%} of the logits' range"


def _row(cell: Cell, narrow: bool = False) -> str:
    name = f"**{cell.name}**" if cell.component == "block" else cell.name
    if narrow and cell.component == "embed":
        name = "embed"  # the page would break the longer word in two
    read = ", ".join(f"{escape(show(word))} {share:.0%}" for word, share in cell.sources)
    numbers = (f"{cell.direct:+.2f}", number(cell.skip_kl, "{:.3f}"), number(cell.skip_target_change, "{:+.3f}"))
    columns: tuple[str, ...]
    if narrow:
        direct, divergence, change = numbers
        skipped = f", skip KL {divergence}, Δ log p {change}" if cell.skip_kl is not None else ""
        effect = f"direct {direct}{skipped}{', flips' if cell.skip_flip else ''}"
        columns = (name + _WIDEN, effect, read, escape(cell.explanation))
    else:
        columns = (name, *numbers, "yes" if cell.skip_flip else "", read, escape(cell.explanation))
    return "| " + " | ".join(columns) + " |"


def number(value: float | None, form: str) -> str:
    """A number, or a dash where nothing was measured."""
    return "–" if value is None else form.format(value)


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    return text[:TEXT_LIMIT].rsplit("\n", 1)[0] + "\n\n(cut here: the report's JSON holds the rest)"
