"""The view of reports of real size, in the tab and in the HTML file: load, search, filter, compare, link, keyboard."""

import sys
from dataclasses import dataclass
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.reports.tensorboard import webdriver
from tests.reports.tensorboard.big import big_report
from tl_nla.reports import ContributionReport
from tl_nla.reports.tensorboard.plugin import write_contributions

pytestmark = pytest.mark.skipif(webdriver.missing_browser() is not None, reason=str(webdriver.missing_browser()))

SIZES = {"30x9x256": (30, 9, 256, 4), "80x64x1000": (80, 64, 1000, 2)}
SUMS = ("attn", "block")
WIDTH = 1400


@dataclass
class Page:
    """One size in one place, opened."""

    session: Any
    address: str
    first: dict[str, Any]
    second: dict[str, Any]
    size: tuple[int, int, int, int]

    def open(self, hash_: str = "") -> None:
        self.session.open("about:blank")
        self.session.open(self.address + hash_)
        self.session.wait("the grid", "return document.querySelectorAll('.grid [data-key]').length > 0")
        # The first report may have been another run's, so the chosen one is waited for.
        self.session.wait("the report", "return document.querySelector('.message').textContent === ''")

    def run(self, code: str, *arguments: Any) -> Any:
        return self.session.run(code, *arguments)

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def keys(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((n) => n.dataset.key)", selector)

    def search(self, text: str) -> str:
        """Search, and give what the page says of how much it found."""
        self.run(
            "const field = document.querySelector('#find'); field.value = arguments[0];"
            "field.dispatchEvent(new Event('input'))", text,
        )  # fmt: skip
        settled = "return new URLSearchParams(decodeURIComponent(location.hash)).get('find') ?? ''"
        self.session.wait("the search", f"return (() => {{ {settled} }})() === {text!r}")
        return self.text("#count")

    def choose(self, select: str, text: str) -> None:
        code = "return [...document.querySelector(arguments[0]).options].map((o) => o.textContent)"
        self.run(
            "const node = document.querySelector(arguments[0]); node.selectedIndex = arguments[1];"
            "node.dispatchEvent(new Event('change'))", select, self.run(code, select).index(text),
        )  # fmt: skip
        self.session.wait("the report", "return document.querySelector('.message').textContent === ''")

    def cells(self, report: dict[str, Any], test: Any) -> list[dict[str, Any]]:
        """Cells of the last position that a test holds of, but sums."""
        last = report["positions"][-1]
        return [c for c in report["cells"] if c["position"] == last and c["component"] not in SUMS and test(c)]


def key(cell: dict[str, Any]) -> str:
    return f"{cell['layer']}/{cell['component']}/{'-' if cell['head'] is None else cell['head']}"


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("+", ""))


@pytest.fixture(scope="module")
def reports():
    """Two prompts of each size."""
    return {name: (big_report(*size), big_report(*size, seed=1)) for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def server(reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    for name, (first, second) in reports.items():
        with SummaryWriter(folder / name) as writer:
            write_contributions(writer, "one", first, 0)
            write_contributions(writer, "two", second, 0)
    with SummaryWriter(folder / "30x9x256 later") as writer:
        write_contributions(writer, "one", reports["30x9x256"][1], 0)
        write_contributions(writer, "one", reports["30x9x256"][0], 7)
    with webdriver.tensorboard(sys.executable, folder) as url:
        yield f"{url}data/plugin_entry.html?name=tl_nla_contributions"


@pytest.fixture(scope="module")
def files(reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, (first, second) in reports.items():
        others = {"two": ContributionReport.from_dict(second)}
        ContributionReport.from_dict(first).to_html(folder / f"{name}.html", others)
    return folder


@pytest.fixture(scope="module")
def session():
    with webdriver.browser(size=(WIDTH, 960)) as started:
        yield started


@pytest.fixture(scope="module", params=[f"{place} {size}" for place in ("tab", "html") for size in SIZES])
def page(request, session, reports):
    place, size = request.param.split()
    if place == "tab":
        address = f"{request.getfixturevalue('server')}#shown={'run%3D' + size + '%26prompt%3Dcontributions%252Fone'}"
    else:
        address = (request.getfixturevalue("files") / f"{size}.html").as_uri()
    found = Page(session, address, *reports[size], SIZES[size])
    found.open()
    return found


def test_only_what_is_in_sight_is_in_the_page(page):
    layers, heads, *_ = page.size
    assert page.run("return document.querySelector('.grid').getAttribute('aria-rowcount')") == str(layers + 2)
    assert page.run("return document.querySelector('.grid').getAttribute('aria-colcount')") == str(heads + 3)
    counts = page.run("return ['.grid [data-key]', '.tokens .token', '.list-rows .list-row']"
                      ".map((selector) => document.querySelectorAll(selector).length)")  # fmt: skip
    assert 0 < counts[0] < 700
    assert 0 < counts[1] < 300
    assert 0 < counts[2] < 60
    assert page.run("return document.documentElement.scrollWidth") <= WIDTH
    page.run("document.querySelector('.grid').scrollTo(0, 0)")
    page.session.wait("the first row", "return document.querySelector(\".grid [data-key='0/block/-']\") !== null")
    page.run("document.querySelector('.grid').scrollTo(1e6, 1e6); document.querySelector('.tokens').scrollTo(0, 0)")
    last = f".grid [data-key='{layers - 1}/head/{heads - 1}']"
    page.session.wait("the last cell", f'return document.querySelector("{last}") !== null')
    page.session.wait("the first token", "return document.querySelector(\"[data-position='0']\") !== null")


def test_words_are_searched_and_the_cell_found_is_told_of(page):
    assert page.search("promotes paris reads France") == "1 found"
    wanted = next(cell for cell in page.cells(page.first, lambda cell: cell["promoted"][:1] == ["Paris"]))
    assert page.keys(".list-rows .list-row") == [key(wanted)]
    page.session.click(".list-rows .list-row")
    assert page.text(".explanation") == wanted["explanation"], "the label is made anew of its words"
    assert page.text(".card").endswith("Names the capital of a country that was read.")
    assert page.keys(".grid [aria-selected=true]") == [key(wanted)]
    assert page.keys(".grid [data-key]:not(.unfound)") == [key(wanted)]
    page.session.wait("the source", "return document.querySelector('.tokens .source') !== null")
    assert page.text(".tokens .source").strip() == "France"
    word = page.first["cells"][40]["promoted"][0]
    count = len(page.cells(page.first, lambda cell: word.lower() in cell["explanation"].lower()))
    assert page.search(f'"{word}"') == f"{count} found"


def test_numbers_are_filtered_and_sorted(page):
    for text, test in (
        ("kl > 0.1 head", lambda c: (c["skip_kl"] or 0) > 0.1 and c["component"] == "head"),
        ("kl above 0.1 not head", lambda c: (c["skip_kl"] or 0) > 0.1 and c["component"] != "head"),
        ("direct < -0.5, layer 3-7", lambda c: c["direct"] < -0.5 and 3 <= c["layer"] <= 7),
        ("flips |direct| >= 2", lambda c: c["skip_flip"] and abs(c["direct"]) >= 2),
    ):
        assert page.search(text) == f"{len(page.cells(page.first, test))} found", text
    page.search("mlp")
    page.session.click("[data-sort=direct]")
    order = sorted(page.cells(page.first, lambda c: c["component"] == "mlp"), key=lambda c: -c["direct"])
    assert page.keys(".list-rows .list-row")[:8] == [key(cell) for cell in order[:8]]
    page.session.click("[data-sort=direct]")
    assert page.keys(".list-rows .list-row")[:8] == [key(cell) for cell in order[::-1][:8]]
    page.session.click("#everywhere")
    everywhere = [c for c in page.first["cells"] if c["component"] == "mlp"]
    assert page.text("#count") == f"{len(everywhere)} found"
    page.session.click("#everywhere")
    page.search("")


def test_two_prompts_are_compared(page):
    page.session.click("#compare")
    page.session.wait("B", "return document.querySelectorAll('.compared .token').length > 0")
    page.choose("#b-prompt", "two")
    pairs = zip(page.cells(page.first, bool), page.cells(page.second, bool), strict=True)
    wanted = {key(a): a["direct"] - b["direct"] for a, b in pairs}
    shown = page.run(
        "return [...document.querySelectorAll('.grid [data-key]')].map((n) => [n.dataset.key, n.textContent])"
    )
    known = [(wanted[name], number(text)) for name, text in shown if name in wanted]
    assert len(known) > 20
    for difference, text in known:
        assert text == pytest.approx(difference, abs=0.06 if abs(difference) > 9.9 else 0.012)
    sides = page.run("return [...document.querySelectorAll('.sides h3')].map((node) => node.textContent)")
    assert sides == ["A", "B"]
    page.session.click("#compare")
    assert page.run("return document.querySelector('.sides') === null")


def test_a_link_leads_to_the_cell(page):
    page.search("head")
    page.session.click("input[value='skip_kl']")
    page.run("document.querySelectorAll('.list-rows .list-row')[2].click()")
    chosen = page.keys(".grid [aria-selected=true]")
    hash_, explanation = page.run("return [location.hash, document.querySelector('.explanation').textContent]")
    page.session.open("about:blank")
    page.session.open(page.address.partition("#")[0] + hash_)
    page.session.wait("the cell", "return document.querySelectorAll('.grid [aria-selected=true]').length > 0")
    assert page.keys(".grid [aria-selected=true]") == chosen
    assert page.text(".explanation") == explanation
    assert page.run("return document.querySelector(\"input[name='measure']:checked\").value") == "skip_kl"
    assert page.run("return document.querySelector('#find').value") == "head"
    page.open()


def test_the_keyboard_does_it_all(page):
    _, heads, tokens, _ = page.size
    page.session.press("/")
    assert page.run("return document.activeElement.id") == "find"
    page.session.press(*"mlp", "\ue00c")  # escape
    assert page.run("return [document.activeElement === document.body, document.querySelector('#find').value]") == [
        True,
        "",
    ]
    page.session.press("[")
    assert f"(position {tokens - 2})" in page.text(".summary")
    page.session.press("]")
    page.run("document.querySelector('.grid [aria-selected=true]').focus()")
    page.session.press("\ue011", "\ue010")  # home, end: over the whole width
    focus = "const node = document.activeElement; const box = node.getBoundingClientRect(); return [node.dataset.key, "
    found, seen = page.run(f"{focus}box.right <= document.querySelector('.grid').getBoundingClientRect().right + 1]")
    assert found.endswith(f"/head/{heads - 1}")
    assert seen, "the chosen cell is scrolled into sight"
    page.run("document.querySelector('.tokens [aria-selected=true]').focus()")
    page.session.press("\ue012")  # left
    assert page.run("return document.activeElement.dataset.position") == str(tokens - 2)
    page.run("document.querySelector('.list').focus()")
    page.session.press("\ue011", "\ue015")  # home, down
    assert page.keys(".list-rows [aria-selected=true]") == page.keys(".list-rows .list-row:nth-child(2)")


def test_two_steps_and_two_runs_are_compared(session, server, reports):
    page = Page(session, server, *reports["30x9x256"], SIZES["30x9x256"])
    page.open("#shown=run%3D30x9x256%2520later%26step%3D7")
    assert page.text("output") == "7 (2 of 2)"
    session.click("#compare")
    session.wait("B", "return document.querySelectorAll('.compared .token').length > 0")
    zeros = "return [...document.querySelectorAll('.grid [data-key]')].every((node) => node.textContent === '0.00')"
    assert page.run(zeros), "a report less itself"
    page.run("const node = document.querySelector('#b-step'); node.value = 0; node.dispatchEvent(new Event('input'))")
    session.wait("step 0", f"return !(() => {{ {zeros} }})()")
    page.choose("#b-run", "30x9x256")
    session.wait("the other run", f"return (() => {{ {zeros} }})()")


def test_the_file_may_load_nothing(files, session):
    session.open((files / "30x9x256.html").as_uri())
    session.wait("the grid", "return document.querySelectorAll('.grid [data-key]').length > 0")
    assert session.run("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    assert session.run("return fetch('data:,x').then(() => 'loaded', () => 'refused')") == "refused"
