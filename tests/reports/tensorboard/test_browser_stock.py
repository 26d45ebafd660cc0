"""What stock TensorBoard shows a person of hostile reports, and of those that a training wrote."""

import sys

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from lightning_modules import ContributionReportCallback
from lightning_modules.callbacks.reports import ShownConfig
from tests.reports.tensorboard import reports, webdriver
from tl_nla.reports import ContributionReport
from tl_nla.reports.tensorboard import LogConfig

pytestmark = pytest.mark.skipif(webdriver.missing_browser() is not None, reason=str(webdriver.missing_browser()))

PROMPT = "Lily had a blue drum. The drum was"


class Line(L.LightningModule):
    """A module with nothing to it but a weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch, batch_idx):
        return (self.weight * batch.float().mean()).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a training has left reports after each of its two steps."""
    folder = tmp_path_factory.mktemp("logs")
    callback = ContributionReportCallback({"drum": PROMPT}, every_n_steps=1, shown=ShownConfig(images=False))
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=2, callbacks=[callback], logger=TensorBoardLogger(folder, name="run"),
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(Line(), torch.utils.data.DataLoader(torch.arange(4)[:, None], batch_size=2))
    return folder, callback.reports["drum"]


@pytest.fixture(scope="module")
def address(trained):
    folder, _ = trained
    for number, text in enumerate(reports.HOSTILE):
        with SummaryWriter(folder / f"hostile {number}") as writer:
            hostile = ContributionReport.from_dict(reports.report(tokens=reports.HOSTILE, explanation=text))
            hostile.log(writer, 0, "text", how=LogConfig(images=False))
    with webdriver.tensorboard(sys.executable, folder) as url:
        yield url


@pytest.fixture(scope="module")
def session():
    with webdriver.browser() as started:
        yield started


def test_hostile_reports_stay_tables_in_the_stock_page(session, address):
    session.open(f"{address}#text")
    session.wait_deep("the tables", "table", "node.rows.length > 3 && node.checkVisibility()")
    columns = "new Set([...node.rows].map((row) => row.cells.length)).size"
    assert set(session.deep("table", columns)) == {1}, "every row of a table has as many cells as its header"
    assert session.run("return window.hacked") is None
    rendered = "node.closest('table, .markdown, [class*=markdown]') !== null"
    assert not any(session.deep("table script, table img, table b, table a", rendered))
    assert not any("|---" in text for text in session.deep("p"))


def test_what_a_training_wrote_is_in_the_tab_and_among_the_curves(session, address, trained):
    _, report = trained
    session.open("about:blank")
    session.open(f"{address}data/plugin_entry.html?name=tl_nla_contributions")
    session.wait("the grid", "return document.querySelectorAll('.grid [data-key]').length > 0")
    runs = session.run("return [...document.querySelector('#run').options].map((option) => option.textContent)")
    place = next(number for number, name in enumerate(runs) if name.startswith("run"))
    session.run(
        "const node = document.querySelector('#run'); node.selectedIndex = arguments[0];"
        "node.dispatchEvent(new Event('change'))", place,
    )  # fmt: skip
    strongest = report.ranked(report.positions[-1])[0]
    key = f"{strongest.layer}/{strongest.component}/{'-' if strongest.head is None else strongest.head}"
    session.wait("its grid", f"return document.querySelector(\".grid [data-key='{key}']\") !== null")
    session.wait("the last step", "return document.querySelector('output').textContent === '2 (2 of 2)'")
    session.click(f".grid [data-key='{key}']")
    assert session.run("return document.querySelector('.explanation').textContent") == strongest.explanation
    session.open("about:blank")
    session.open(f"{address}#timeseries")
    session.wait_deep("the curves", "*", "node.childElementCount === 0 && node.textContent.includes('contributions')")
