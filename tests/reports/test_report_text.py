import random

import markdown as markdown_package
import pytest

from tl_nla.reports.report import Cell, ContributionReport
from tl_nla.reports.report_figures import figures, heat_map
from tl_nla.reports.report_text import TEXT_LIMIT

NASTY = (
    *("a | b", "line\nbreak\r\n", "<script>alert(1)</script><b>", "x" * 10_000, "\ud800 half"),
    "**bold** `code` [l](u)",
    *("\u202eturned", "\x00\x07", "| --- |\n| :-: |", "&amp; &#124;", "", "🦜 日本", "$a_1$ \\", "\u2028", "#h"),
)


def make_report(texts=("It promotes red",), positions=(2, 3), skips=True, n_layers=2, n_heads=2):
    """A report without a model; texts go everywhere where model text goes."""
    draw = random.Random(0)
    text = lambda: draw.choice(texts)  # noqa: E731
    cells = []
    for position in positions:
        parts = [(-1, "embed", None), (n_layers, "bias", None)]
        for layer in range(n_layers):
            parts += [(layer, "head", head) for head in range(n_heads)]
            parts += [(layer, kind, None) for kind in ("attn", "mlp", "block", "bias")]
        for layer, component, head in parts:
            told = {"skip_kl": draw.random(), "skip_target_change": -draw.random(), "skip_flip": draw.random() < 0.5}
            cells.append(Cell(
                layer, component, head, position, draw.gauss(0, 2), **(told if skips and component != "embed" else {}),
                strength=1.0, sources=[(text(), 0.5)], source_positions=[0], promoted=[text()], suppressed=[text()],
                explanation=text(),
            ))  # fmt: skip
    count = len(positions)
    return ContributionReport(
        text(), text(), tuple(text() for _ in range(4)), tuple(positions), "logit", tuple(text() for _ in range(count)),
        (), tuple(((text(), 0.9),) for _ in range(count)), n_layers, n_heads, tuple(cells), (0.0,) * count,
    )  # fmt: skip


def rendered(text):
    """The page that TensorBoard's own Markdown extensions make."""
    return markdown_package.markdown(text, extensions=["markdown.extensions.tables"])


@pytest.mark.parametrize(("narrow", "columns"), [(False, 7), (True, 4)])
@pytest.mark.parametrize("text", NASTY)
def test_no_model_text_breaks_the_table(text, narrow, columns):
    report = make_report((text,))
    page = rendered(report.to_markdown(narrow=narrow))
    assert page.count("<table>") == 2
    rows = [row for row in page.split("<tr>")[1:] if "<td" in row]
    assert len(rows) == 2 * (2 + 2 * 6)
    assert {row.count("<td") for row in rows} == {columns}
    assert "<script" not in page
    assert "<b>" not in page
    report.to_markdown().encode("utf-8")


def test_long_reports_are_capped_and_say_so():
    text = make_report(("z" * 2000,), positions=range(4)).to_markdown(max_rows=5)
    assert "51 more rows" in text
    assert text.count("\n| ") == 2 * 1 + 5 - 0
    assert len(text) < TEXT_LIMIT


def test_of_many_rows_the_strongest_of_the_last_positions_stay():
    report = make_report(positions=range(4), n_layers=8)
    text = report.to_markdown(max_rows=40)
    assert "**Position 1**" not in text
    assert "**Position 2**" in text
    parts = report.at(3, ("head", "mlp", "embed", "bias"))
    strongest = max(parts, key=lambda cell: abs(cell.direct))
    table = text.split("**Position 3**")[1]
    assert strongest.name in [line.split("|")[1].strip() for line in table.splitlines()[4:] if line.startswith("|")][:2]
    assert "L0 attention" not in text, "sums of parts would always come first"


def test_large_heat_maps_stay_small_and_readable():
    figure = heat_map([[0.5] * 65] * 160, [f"L{row}" for row in range(160)], [f"head {n}" for n in range(65)], "title",
                      signed=True, numbers=True)  # fmt: skip
    axes = figure.axes[0]
    assert max(figure.get_size_inches()) <= 16
    assert not axes.texts
    assert 40 <= len(axes.get_yticklabels()) <= 80
    assert [tick.get_text() for tick in axes.get_yticklabels()][:2] != ["L0", "L1"]


@pytest.mark.filterwarnings("error")
def test_figures_draw_any_text_without_a_warning():
    drawn = figures(make_report(NASTY))
    assert set(drawn) == {f"{kind}/{shape}" for kind in ("direct", "skip") for shape in ("layer_token", "layer_head")}
    for figure in drawn.values():
        figure.canvas.draw()
    assert set(figures(make_report(skips=False))) == {"direct/layer_token", "direct/layer_head"}


def test_heat_maps_label_every_row_and_column():
    figure = heat_map([[1.0, -2.0], [0.5, 0.0]], ["L0", "L1"], ["a", "b"], "title", signed=True, numbers=True)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["L0", "L1"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["1.00", "-2.00", "0.50", "0.00"]
    assert axes.images[0].get_clim() == (-2.0, 2.0)
