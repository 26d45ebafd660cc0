"""How long the view of a report of real size takes to load, to search and to scroll. Run by ``make bench``.

Times are printed (``pytest -s``); the bounds are loose, since other work may run beside. Loading is measured in the
page, from the start of its navigation until the report is drawn; what TensorBoard's server reads before is told apart.
"""

import sys
import time
import urllib.request

import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.reports.tensorboard import webdriver
from tests.reports.tensorboard.big import big_report
from tl_nla.reports import ContributionReport
from tl_nla.reports.tensorboard.plugin import write_contributions

pytestmark = pytest.mark.skipif(webdriver.missing_browser() is not None, reason=str(webdriver.missing_browser()))

SIZES = {"30x9x256": (30, 9, 256, 256), "80x64x1000": (80, 64, 1000, 16)}
"""Layers, heads, tokens and reported positions: about a hundred thousand cells each."""
_DRAWN = "return performance.getEntriesByName('drawn').at(0)?.startTime"
_SEARCHED = """
const field = document.querySelector('#find'), done = arguments[arguments.length - 1];
const started = performance.now();
field.value = 'promotes paris kl > 0.1';
field.dispatchEvent(new Event('input'));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));
"""
_SCROLLED = """
const node = document.querySelector(arguments[0]), done = arguments[arguments.length - 1];
const times = [];
let last = performance.now(), frames = 0;
const step = () => {
  const now = performance.now();
  times.push(now - last);
  last = now;
  node.scrollBy(arguments[1], arguments[2]);
  if (++frames < 90) requestAnimationFrame(step);
  else done(times.slice(2).sort((a, b) => a - b));
};
requestAnimationFrame(step);
"""


@pytest.fixture(scope="module", params=SIZES)
def report(request):
    return request.param, big_report(*SIZES[request.param])


def asynchronous(session, script, *arguments):
    return session._call("POST", "/execute/async", {"script": script, "args": list(arguments)})


@pytest.fixture
def tell(capsys):
    """Writes a line that is seen."""

    def write(line):
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return write


def measured(session, address):
    """Milliseconds of load, search, and of a frame while scrolling: the middle, the twentieth worst and the worst."""
    session.open("about:blank")
    session.open(address)
    loads = [session.wait("the report", _DRAWN)]
    for _ in range(4):
        session.open("about:blank")
        session.open(address)
        loads.append(session.wait("the report", _DRAWN))
    search = asynchronous(session, _SEARCHED)
    session.run("const f = document.querySelector('#find'); f.value = ''; f.dispatchEvent(new Event('input'))")
    frames = {}
    scrolls = (
        ("still", ".grid", 0, 0),
        ("grid", ".grid", 9, 12),
        ("tokens", ".tokens", 0, 14),
        ("list", ".list", 0, 30),
    )
    for what, selector, x, y in scrolls:
        session.run("document.querySelector(arguments[0]).scrollTo(0, 0)", selector)
        times = asynchronous(session, _SCROLLED, selector, x, y)
        frames[what] = tuple(round(times[place]) for place in (len(times) // 2, -len(times) // 20, -1))
    # Frames of a page that stands still tell how busy the machine is.
    assert min(loads) < 2000
    assert search < 1000
    assert all(middle < 50 for middle, *_ in frames.values()), frames
    return f"load {min(loads):.0f} to {max(loads):.0f} ms, search {search:.0f} ms, frames while scrolling {frames}"


def test_the_html_file(report, tmp_path, tell):
    name, content = report
    file = tmp_path / "report.html"
    page = ContributionReport.from_dict(content).to_html(file)
    tell(f"HTML {name}: {len(page.encode()) / 1e6:.2f} MB, {len(content['cells'])} cells")
    assert len(page.encode()) <= 2_000_000
    with webdriver.browser() as session:
        tell(measured(session, file.as_uri()))


def test_the_tab(report, tmp_path, tell):
    name, content = report
    with SummaryWriter(tmp_path) as writer:
        write_contributions(writer, "prompt", content, 0)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    with webdriver.tensorboard(sys.executable, tmp_path) as url, webdriver.browser() as session:
        started = time.monotonic()
        while b"prompt" not in urllib.request.urlopen(f"{url}data/plugin/tl_nla_contributions/tags").read():  # noqa: S310
            time.sleep(0.1)
        tell(f"tab {name}: event file {size / 1e6:.2f} MB, read by the server in {time.monotonic() - started:.1f} s")
        tell(measured(session, f"{url}data/plugin_entry.html?name=tl_nla_contributions"))
