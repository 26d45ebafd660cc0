"""What a person sees who opens a report in TensorBoard: a real server, a real browser, a real report."""

import sys

import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.reports.tensorboard import reports, webdriver

pytestmark = pytest.mark.skipif(webdriver.missing_browser() is not None, reason=str(webdriver.missing_browser()))

PROMPT = "Lily had a blue drum. Tom took the drum to the farm. The drum was"
_CONTRAST = """
const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const light = (text) => {
  const [red, green, blue] = text.match(/[\\d.]+/g).slice(0, 3).map((value) => linear(value / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
return [...document.querySelectorAll('.grid [data-key]')].map((cell) => {
  const style = getComputedStyle(cell);
  const [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
});
"""


@pytest.fixture(scope="module")
def written():
    """A report of the embedded target."""
    from tl_nla.model.targets import load_target
    from tl_nla.reports import layer_contributions

    target = load_target("tiny")
    tokens = target.model.to_tokens(PROMPT)
    return layer_contributions(target.model, tokens, positions=[-2, -1], tokenizer=target.tokenizer, name="tiny")


@pytest.fixture(scope="module")
def address(written, tmp_path_factory):
    """A TensorBoard server of a folder with the real report and with hostile ones."""
    from tl_nla.reports.tensorboard.plugin import write_contributions

    folder = tmp_path_factory.mktemp("logs")
    with SummaryWriter(folder / "tiny") as writer:
        written.log(writer, 0, "drum")
        for step in (0, 10):
            write_contributions(writer, "drum", written.to_dict(), step)
    with SummaryWriter(folder / "hostile") as writer:
        for number, text in enumerate(reports.HOSTILE):
            hostile = reports.report(tokens=reports.HOSTILE, explanation=text)
            write_contributions(writer, f"text {number}", hostile, 0)
        write_contributions(writer, reports.HOSTILE[2], reports.report(), 0)
        damaged = reports.report()
        damaged["cells"][0]["position"], damaged["target"] = damaged["positions"][0], {}
        write_contributions(writer, "zz damaged", damaged, 0)
    with webdriver.tensorboard(sys.executable, folder) as url:
        yield url


@pytest.fixture(scope="module")
def session():
    with webdriver.browser() as started:
        yield started


@pytest.fixture
def tab(session, address):
    """Our tab by itself, at the run ``tiny``: what TensorBoard puts into its frame."""
    session.open("about:blank")
    session.open(f"{address}data/plugin_entry.html?name=tl_nla_contributions")
    _shown(session)
    return session


@pytest.fixture
def tab_in_tensorboard(session, address):
    """Our tab in TensorBoard's page; the browser has entered its frame."""
    session.open("about:blank")
    session.open(f"{address}#tl_nla_contributions")
    session.wait("the tab's frame", "return document.querySelector('iframe') !== null")
    session.enter_frame()
    _shown(session)
    yield session
    session.leave_frame()


def _shown(tab):
    tab.wait("the grid", "return document.querySelectorAll('.grid [data-key]').length > 0")
    _choose(tab, "#run", "tiny")


def _choose(tab, select, text):
    """Choose an option by its text, as a person does, and wait for the report."""
    code = "const options = [...document.querySelector(arguments[0]).options].map((o) => o.textContent); return options"
    options = tab.run(code, select)
    tab.run(
        "const node = document.querySelector(arguments[0]); node.selectedIndex = arguments[1];"
        "node.dispatchEvent(new Event('change'))", select, options.index(text),
    )  # fmt: skip
    tab.wait("the chosen report", "return document.querySelector('.message').textContent !== 'Loading …'")


def _text(tab, selector):
    return tab.run("return document.querySelector(arguments[0]).textContent.toWellFormed()", selector)


def test_stock_tables_are_tables_and_images_are_shown(session, address, written):
    session.open(f"{address}#text")
    session.wait_deep("a table", "table", "node.rows.length > 3 && node.checkVisibility()")
    cells = " ".join(session.deep("td"))
    strongest = written.ranked(written.positions[-1])[0]
    assert strongest.promoted[0] in cells
    assert not any("|---" in text for text in session.deep("p"))
    session.open("about:blank")
    session.open(f"{address}#images")
    session.wait_deep("an image", "img", "node.naturalWidth > 100 && node.checkVisibility()")


def test_the_tab_shows_every_component_of_the_real_report(tab, written):
    shown = tab.run(
        "return [...document.querySelectorAll('.grid [data-key]')].map((node) => [node.dataset.key, node.textContent])"
    )
    wanted = {}
    for cell in written.at(written.positions[-1]):
        if cell.component != "rounding":
            wanted[f"{cell.layer}/{cell.component}/{'-' if cell.head is None else cell.head}"] = cell.direct
    assert len(shown) >= len(written.at(written.positions[-1], ("head", "mlp", "attn", "block")))
    for key, text in shown:
        assert float(text.replace("−", "-")) == pytest.approx(wanted.get(key, 0.0), abs=0.006)
    shown = tab.run("return [...document.querySelectorAll('.tokens .token')].map((node) => node.textContent)")
    assert len(shown) == len(written.tokens)
    assert f"the parts add up to {written.totals[-1]:.1f}" in _text(tab, ".summary").replace("−", "-")
    assert _text(tab, "output") == "10 (2 of 2)"


def test_a_click_shows_the_explanation_and_what_was_read(tab_in_tensorboard, written):
    tab = tab_in_tensorboard
    for cell in written.at(written.positions[-1], ("head", "mlp"))[:6]:
        tab.click(f".grid [data-key='{cell.layer}/{cell.component}/{'-' if cell.head is None else cell.head}']")
        assert _text(tab, ".explanation") == cell.explanation
        details = _text(tab, ".details")
        assert all(token.strip() in details for token in cell.promoted + cell.suppressed)
        assert f"KL {cell.skip_kl:.2f} nats" in details
        shaded = tab.run(
            "return [...document.querySelectorAll('.tokens .source')].map((node) => Number(node.dataset.position))"
        )
        assert sorted(set(shaded)) == sorted(set(cell.source_positions))
        grounds = tab.run("return [...document.querySelectorAll('.source')].map((n) => getComputedStyle(n).background)")
        assert all("33, 102, 172" in ground or "33 102 172" in ground for ground in grounds)


def test_other_positions_steps_and_measures_can_be_chosen(tab, written):
    position = written.positions[0]
    tab.click(f".tokens [data-position='{position}']")
    assert f"(position {position})" in _text(tab, ".summary")
    tab.click("input[value='skip_target']")
    cell = written.ranked(position)[0]
    key = f"{cell.layer}/{cell.component}/{'-' if cell.head is None else cell.head}"
    assert float(_text(tab, f".grid [data-key='{key}']").replace("−", "-")) == pytest.approx(
        cell.skip_target_change, abs=0.006
    )
    tab.click("input[value='skip_kl']")
    assert float(_text(tab, f".grid [data-key='{key}']")) == pytest.approx(cell.skip_kl, abs=0.006)
    tab.run("const node = document.querySelector('#step'); node.value = 0; node.dispatchEvent(new Event('input'))")
    tab.wait("step 0", "return document.querySelector('output').textContent === '0 (1 of 2)'")


def test_the_keyboard_reaches_every_cell(tab, written):
    tab.click(".grid [data-key='0/head/0']")
    tab.run("document.querySelector('.grid [aria-selected=true]').focus()")
    focus = "return document.activeElement.dataset.key"
    tab.press("\ue014")  # right
    assert tab.run(focus) == "0/head/1"
    tab.press("\ue015", "\ue010")  # down, end
    assert tab.run(focus) == f"1/head/{written.n_heads - 1}"
    tab.press("\ue011", "\ue013", "\ue013")  # home, up, up
    assert tab.run(focus) == "-1/embed/-"
    assert _text(tab, ".details h2") == "Embedding"
    tab.run("document.querySelector(\".tokens [aria-selected='true']\").focus()")
    tab.press("\ue012")  # left
    assert tab.run("return document.activeElement.dataset.position") == str(written.positions[0])
    for key in ("\ue004",) * 4:  # tab: on to the measure, the strongest, and so on
        tab.press(key)
    assert tab.run("return document.activeElement !== document.body")


def test_a_link_of_tensorboards_page_leads_to_the_cell(tab_in_tensorboard, address):
    tab = tab_in_tensorboard
    tab.click(".grid [data-key='2/head/1']")
    explanation = _text(tab, ".explanation")
    hash_ = tab.run("return window.parent.location.hash")
    assert hash_.startswith("#tl_nla_contributions&shown=")
    tab.leave_frame()
    tab.open("about:blank")
    tab.open(address + hash_)
    tab.wait("the tab's frame", "return document.querySelector('iframe') !== null")
    tab.enter_frame()
    tab.wait("the cell", 'return document.querySelector(".grid [aria-selected=true]") !== null')
    assert tab.run("return document.querySelector('.grid [aria-selected=true]').dataset.key") == "2/head/1"
    assert _text(tab, ".explanation") == explanation


def test_numbers_are_readable_in_light_and_dark(tab_in_tensorboard):
    tab = tab_in_tensorboard
    for theme in ("light", "dark"):
        tab.run("window.parent.document.body.classList.toggle('dark-mode', arguments[0])", theme == "dark")
        tab.wait("the theme", f"return document.documentElement.dataset.theme === '{theme}'")
        for measure in ("direct", "skip_target", "skip_kl"):
            tab.click(f"input[value='{measure}']")
            assert min(tab.run(_CONTRAST)) >= 4.5


def test_hostile_text_is_shown_and_does_nothing(tab):
    _choose(tab, "#run", "hostile")
    for number, text in enumerate(reports.HOSTILE):
        _choose(tab, "#prompt", f"text {number}")
        shown = _text(tab, ".explanation")
        signs = {"\x07": "\\u0007", "\x00": "\\u0000", "\x1b": "\\u001b", "\r": "\\u000d", "\u200b": "\\u200b",
                 "\u202e": "\\u202e", "\u202c": "\\u202c"}  # fmt: skip
        expected = "".join(signs.get(sign, sign) for sign in text) or "—"
        assert shown.replace("\ufffd", "\ud83d") == expected
        assert tab.run("return document.querySelectorAll('.grid [data-key]').length") == 17
        width = tab.run("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1], "nothing makes the page wider than its window"
    assert tab.run("return [window.hacked, window.parent.hacked]") == [None, None]
    assert tab.run("return document.querySelectorAll('main script, main img, main b').length") == 0
    _choose(tab, "#prompt", reports.HOSTILE[2])
    assert _text(tab, ".message") == ""


def test_a_report_that_cannot_be_shown_is_said_so_in_one_line(tab):
    _choose(tab, "#run", "hostile")
    _choose(tab, "#prompt", "zz damaged")
    assert _text(tab, ".message").startswith("this report cannot be shown:")
    assert tab.run("return document.querySelector('main').hidden")
    _choose(tab, "#prompt", "text 0")
    assert not tab.run("return document.querySelector('main').hidden")


def test_nothing_is_loaded_from_elsewhere(tab, address):
    loaded = tab.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert any(name.endswith("index.js") for name in loaded)
    assert all(name.startswith((address, "data:")) for name in loaded)
