"""Reports as summaries: what is refused, and what comes out of the event file."""

import json

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from tests.reports.tensorboard import reports
from tl_nla.errors import InputError
from tl_nla.reports.packed import unpack
from tl_nla.reports.tensorboard.plugin import PLUGIN_NAME, TAG_PREFIX, contribution_summary, write_contributions


def _read(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: {event.step: unpack(json.loads(event.tensor_proto.string_val[0])) for event in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
        if events.SummaryMetadata(tag).plugin_data.plugin_name == PLUGIN_NAME
    }


def test_names_are_those_of_the_schema():
    from tl_nla.reports import report_schema

    assert f"plugin ``{PLUGIN_NAME}``" in report_schema.__doc__
    assert report_schema.TAG_PREFIX == TAG_PREFIX


def test_writes_with_torch_and_with_lightnings_logger(tmp_path):
    with SummaryWriter(tmp_path / "torch") as writer:
        write_contributions(writer, "contributions/park", reports.report(), 3)
        write_contributions(writer, "park", reports.report(step=4), 4)
    found = _read(tmp_path / "torch")
    assert {tag: sorted(steps) for tag, steps in found.items()} == {"contributions/park": [3, 4]}
    reports.assert_same(found["contributions/park"][4], reports.report(step=4))
    logger = TensorBoardLogger(tmp_path, name="lightning", version="")
    write_contributions(logger.experiment, "contributions/park", reports.report(), 3)
    logger.finalize("success")
    reports.assert_same(_read(logger.log_dir)["contributions/park"][3], reports.report())


def test_writes_nothing_where_lightning_hands_out_an_idle_writer():
    write_contributions(DummyLogger().experiment, "contributions/park", reports.report(), 0)


def test_numbers_that_json_has_not_become_null():
    report = reports.report()
    report["cells"][0]["direct"] = float("nan")
    report["total"]["logit"] = (float("inf"), 1.0)
    content = unpack(json.loads(contribution_summary("park", report).value[0].tensor.string_val[0]))
    assert content["cells"][0]["direct"] is None
    assert content["total"]["logit"] == [None, 1.0]


def test_a_tag_with_half_a_surrogate_pair_is_written_all_the_same():
    assert contribution_summary("half \ud83d", reports.report()).value[0].tag == "contributions/half ?"


@pytest.mark.parametrize(
    ("tag", "step", "changes", "words"),
    [
        ("", 0, {}, "needs the name of its prompt"),
        ("contributions/ ", 0, {}, "needs the name of its prompt"),
        ("park", -1, {}, "from zero on; got -1"),
        ("park", True, {}, "got True"),
        ("park", 0, {"schema": 2}, "schema 2"),
        ("park", 0, {"cells": [{}]}, "cell 0 of the report lacks layer"),
    ],
)
def test_refuses_what_it_cannot_write(tmp_path, tag, step, changes, words):
    with SummaryWriter(tmp_path) as writer, pytest.raises(InputError, match=words):
        write_contributions(writer, tag, reports.report() | changes, step)
    assert _read(tmp_path) == {}


def test_refuses_a_writer_of_another_kind(tmp_path):
    with pytest.raises(InputError, match="ExperimentWriter writes no TensorBoard summaries; give"):
        write_contributions(CSVLogger(tmp_path).experiment, "park", reports.report(), 0)
