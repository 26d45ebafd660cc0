"""Make the pictures of docs/tensorboard.md: `make gallery`. Needs Chromium and chromedriver, no network.

Reports are written to a folder, a real TensorBoard server shows them, and a headless browser looks at them. The
means are those of tests/reports/tensorboard/test_browser.py. Pictures of SmolLM2 are made where `make smollm2` has put
it, or where TL_NLA_SMOLLM2 names its folder; elsewhere the old ones stay.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from tests.reports.tensorboard import webdriver
from tl_nla.cli.contributions import find_oracle
from tl_nla.errors import InputError
from tl_nla.model.targets import load_target
from tl_nla.reports import layer_contributions
from tl_nla.reports.tensorboard import LogConfig
from tl_nla.reports.tensorboard.plugin import write_contributions
from tl_nla.storyworld.tiny import embedded_vocabulary

PROMPTS = {
    "kite": "One rainy afternoon Tom went to the harbor. Tom found a kite painted red. Tom felt happy. Lily came "
    "to the farm too. Lily had a drum painted blue. They sang a song together. The kite was",
    "park": "Anna went to the park. Paul had a red kite. Anna was in the",
}
CAPITALS = {
    "France": "Marie Curie was born in Warsaw and moved to France to study physics. She met Pierre there, and "
    "together they found two new elements. She did most of her work in the city of",
    "England": "Marie Curie was born in Warsaw and moved to England to study physics. She met Peter there, and "
    "together they found two new elements. She did most of her work in the city of",
}
GRID = "return document.querySelectorAll('.grid [data-key]').length > 0"
SEARCH = """
const field = document.querySelector('#find');
field.value = arguments[0];
field.dispatchEvent(new Event('input'));
"""


def write_reports(folder: Path) -> None:
    """Write one report a prompt: of all positions for the tab, of the last two for the stock dashboards."""
    target = load_target("tiny")
    oracle, named = find_oracle("tiny", None), embedded_vocabulary(target.model, target.tokenizer)
    with SummaryWriter(folder / "tiny") as writer:
        for name, prompt in PROMPTS.items():
            tokens = target.model.to_tokens(prompt)
            few, every = (
                layer_contributions(
                    target.model,
                    tokens,
                    oracle,
                    positions=positions,
                    tokenizer=target.tokenizer,
                    name="tiny",
                    vocabulary=named,
                )
                for positions in ([-2, -1], "all")
            )
            few.log(writer, 0, name, how=LogConfig(tab=False))
            write_contributions(writer, name, every.to_dict(), 0)


def real_reports() -> dict[str, Any]:
    """Reports of SmolLM2 by name; none where it is not in reach."""
    try:
        target = load_target("smollm2")
    except InputError as error:
        sys.stderr.write(f"no pictures of SmolLM2: {error}\n")
        return {}
    how = {"positions": list(range(-12, 0)), "tokenizer": target.tokenizer, "name": "SmolLM2-135M-Instruct"}
    return {
        name: layer_contributions(target.model, prompt, **how)
        for name, prompt in CAPITALS.items()
    }  # fmt: skip


@contextmanager
def opened_tab(seen: webdriver.Browser, url: str) -> Iterator[None]:
    """The tab's frame in TensorBoard's page, entered."""
    seen.open("about:blank")
    seen.open(f"{url}#tl_nla_contributions")
    seen.wait("the tab's frame", "return document.querySelector('iframe') !== null")
    seen.enter_frame()
    seen.wait("the grid", GRID)
    yield
    seen.leave_frame()


def tiny_pictures(seen: webdriver.Browser, out: Path) -> None:
    """The tab and the stock tables of the embedded model."""
    with tempfile.TemporaryDirectory() as logs:
        write_reports(Path(logs))
        with webdriver.tensorboard(sys.executable, Path(logs)) as url:
            with opened_tab(seen, url):
                seen.click("input[value='skip_kl']")
                seen.click(".list-rows .list-row")
                seen.click("input[value='direct']")
                seen.screenshot(out / "tensorboard_tab.png")
            seen.open("about:blank")
            seen.open(f"{url}#text")
            seen.wait_deep("a table", "table", "node.rows.length > 3 && node.checkVisibility()")
            seen.screenshot(out / "tensorboard_stock.png")


def real_pictures(seen: webdriver.Browser, dark: webdriver.Browser, out: Path, reports: dict[str, Any]) -> None:
    """The tab with a search, and the HTML file with a difference, dark."""
    first, *others = reports
    with tempfile.TemporaryDirectory() as logs:
        folder = Path(logs)
        with SummaryWriter(folder / "SmolLM2") as writer:
            for name, report in reports.items():
                write_contributions(writer, name, report.to_dict(), 0)
        with webdriver.tensorboard(sys.executable, folder) as url, opened_tab(seen, url):
            options = "return [...document.querySelector('#prompt').options].map((option) => option.textContent)"
            seen.run(
                "const node = document.querySelector('#prompt'); node.selectedIndex = arguments[0];"
                "node.dispatchEvent(new Event('change'))", seen.run(options).index(first),
            )  # fmt: skip
            seen.wait("the report", "return document.querySelector('.message').textContent === ''")
            seen.run(SEARCH, f"reads {first}")
            seen.wait("the search", "return document.querySelector('#count').textContent.includes('found')")
            seen.click(".list-rows .list-row")
            seen.screenshot(out / "tensorboard_smollm2.png")
        reports[first].to_html(folder / "report.html", {name: reports[name] for name in others})
        dark.open((folder / "report.html").as_uri())
        dark.wait("the grid", GRID)
        dark.click("#compare")
        dark.wait("B", "return document.querySelectorAll('.compared .token').length > 0")
        dark.run(
            "const node = document.querySelector('#b-prompt'); node.selectedIndex = 1;"
            "node.dispatchEvent(new Event('change'))"
        )
        dark.wait("the other", "return document.querySelector('.message').textContent === ''")
        dark.click(".list-rows .list-row")
        dark.run("window.scrollTo(0, 0)")
        dark.screenshot(out / "html_compare.png")


def main() -> None:
    """Write the pictures into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    out = parser.parse_args().out
    if reason := webdriver.missing_browser():
        sys.exit(reason)
    out.mkdir(parents=True, exist_ok=True)
    reports = real_reports()
    with webdriver.browser(size=(1400, 1060)) as seen, webdriver.browser(dark=True, size=(1400, 1160)) as dark:
        tiny_pictures(seen, out)
        if reports:
            real_pictures(seen, dark, out, reports)


if __name__ == "__main__":
    main()
