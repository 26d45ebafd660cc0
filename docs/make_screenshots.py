"""Make the pictures of docs/tensorboard.md: `make gallery`. Needs Chromium and chromedriver, no network.

Reports of the embedded target are written to a folder, a real TensorBoard server shows them, and a headless browser
looks at them. The means are those of tests/reports/tensorboard/test_browser.py.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from tests.reports.tensorboard import webdriver
from tl_nla.cli.contributions import find_oracle
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
GRID = "return document.querySelectorAll('.grid [data-key]').length > 0"


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


def main() -> None:
    """Write the pictures into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    out = parser.parse_args().out
    if reason := webdriver.missing_browser():
        sys.exit(reason)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as logs:
        write_reports(Path(logs))
        with webdriver.tensorboard(sys.executable, Path(logs)) as url, webdriver.browser(size=(1400, 960)) as seen:
            seen.open(f"{url}#tl_nla_contributions")
            seen.wait("the tab's frame", "return document.querySelector('iframe') !== null")
            seen.enter_frame()
            seen.wait("the grid", GRID)
            seen.click("input[value='skip_kl']")
            seen.click(".strongest button")
            seen.click("input[value='direct']")
            seen.screenshot(out / "tensorboard_tab.png")
            seen.leave_frame()
            seen.open("about:blank")
            seen.open(f"{url}#text")
            seen.wait_deep("a table", "table", "node.rows.length > 3 && node.checkVisibility()")
            seen.screenshot(out / "tensorboard_stock.png")


if __name__ == "__main__":
    main()
