"""What notebooks show of a contribution report: the parts that matter most at its last position."""

from typing import Any

from tl_nla.markdown import show
from tl_nla.notebook import table_html
from tl_nla.reports.report_text import number

_SHOWN = 8
_HEAD = ("part", "direct", "skip KL", "Δ log p", "read", "in words")


def report_html(report: Any) -> str:
    """A table of the strongest parts at the last position; ``report.to_html()`` holds everything."""
    position, row = report.positions[-1], len(report.positions) - 1
    cells = sorted(report.at(position, ("head", "mlp", "mixer", "ple")), key=_size)[:_SHOWN]
    likely = ", ".join(f"{show(word)} {p:.0%}" for word, p in report.predictions[row])
    prompt = ("… " if len(report.prompt) > 200 else "") + report.prompt[-200:]
    caption = (
        f"{prompt} → {report.targets[row]}  ({report.model}: {report.n_layers} layers of {report.n_heads} heads; "
        f"likeliest next: {likely})"
    )
    rows = [
        (cell.name, cell.direct, number(cell.skip_kl, "{:.3f}"), number(cell.skip_target_change, "{:+.3f}"),
         ", ".join(f"{show(word)} {share:.0%}" for word, share in cell.sources), cell.explanation)
        for cell in cells
    ]  # fmt: skip
    note = f"The {len(cells)} strongest parts at position {position}. report.to_html(path) writes the whole view."
    return table_html(_HEAD, rows, caption, " ".join(filter(None, (report.warning, note))))


def _size(cell: Any) -> float:
    return -max(abs(cell.direct), cell.skip_kl or 0.0)
