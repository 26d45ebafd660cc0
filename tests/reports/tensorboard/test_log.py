import json
import re

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from tests.reports.test_report_text import NASTY, make_report
from tl_nla.errors import InputError
from tl_nla.reports.packed import unpack
from tl_nla.reports.tensorboard.log import PAGE, LogConfig, log_hparams, log_layout, log_report, scalars, segment


def read_run(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0, "images": 0, "histograms": 0})
    events.Reload()
    return events


@pytest.mark.parametrize("texts", [("It promotes red",), NASTY], ids=["plain", "nasty"])
def test_everything_lands_in_one_run(tmp_path, texts):
    report = make_report(texts)
    with SummaryWriter(tmp_path) as writer:
        log_layout(writer, ["story"])
        report.log(writer, 3, "story")
        log_hparams(writer, {"model": "tiny", "layers": [1, 2]}, {"hp/target": 1.5})
    events = read_run(tmp_path)
    tags = events.Tags()
    wanted = scalars(report)
    assert {f"contributions/story/{tag}" for tag in wanted} <= set(tags["scalars"])
    for tag, value in wanted.items():
        assert events.Scalars(f"contributions/story/{tag}")[0].value == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert {f"contributions/story/{kind}/{shape}/0" for kind in ("direct", "skip") for shape in
            ("layer_token", "layer_head")} == set(tags["images"])  # fmt: skip
    assert tags["histograms"] == ["contributions/story/direct_of_heads"]
    assert "hp/target" in tags["scalars"]
    table = events.Tensors("contributions/story/table/0/text_summary")[0].tensor_proto.string_val[0].decode()
    assert re.search(r"\n\n\| part \|", table)
    stored = unpack(json.loads(events.Tensors("contributions/story")[0].tensor_proto.string_val[0]))
    assert len(stored["cells"]) == len(report.cells)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_layout_patterns_match_the_scalars(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        log_layout(writer, ["a (story)"])
        log_report(writer, make_report(), 0, "a (story)", how=LogConfig(images=False, tab=False))
    events = read_run(tmp_path)
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    for category in layout.category:
        for chart in category.chart:
            pattern = chart.multiline.tag[0]
            assert sum(bool(re.match(pattern, tag)) for tag in events.Tags()["scalars"]) == 2, pattern


def test_no_report_is_lost_to_retention(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step in range(2 * PAGE + 1):
            report = make_report(n_layers=1, n_heads=1, positions=(1,))
            log_report(writer, report, step, "s", how=LogConfig(images=False))
    # What the server keeps of a text tag without its fast loader.
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": PAGE})
    events.Reload()
    tables = [tag for tag in events.Tags()["tensors"] if "/table/" in tag]
    steps = sorted(event.step for tag in tables for event in events.Tensors(tag))
    assert steps == list(range(2 * PAGE + 1))


def test_writes_go_to_the_projector(tmp_path):
    from dataclasses import replace

    report = make_report(NASTY)
    count = sum(cell.site is not None for cell in report.cells)
    report = replace(report, writes=torch.randn(count, 8))
    with SummaryWriter(tmp_path) as writer:
        log_report(writer, report, 0, "s", how=LogConfig(images=False, embeddings=True))
    lines = next(tmp_path.glob("00000/*/metadata.tsv")).read_text().split("\n")
    assert len([line for line in lines if line]) == count + 1
    assert {line.count("\t") for line in lines if line} == {4}
    assert lines[0].startswith("layer\t")


def test_empty_and_infinite_numbers_do_not_stop_a_training(tmp_path):
    from dataclasses import replace

    report = make_report()
    broken = replace(report, cells=tuple(replace(cell, direct=float("nan")) for cell in report.cells))
    with SummaryWriter(tmp_path) as writer:
        log_report(writer, broken, 0, "s", how=LogConfig(images=False))
    assert read_run(tmp_path).Tags()["histograms"] == []


@pytest.mark.parametrize("step", [-1, True])
def test_bad_steps_are_refused(tmp_path, step):
    with SummaryWriter(tmp_path) as writer, pytest.raises(InputError, match="whole number"):
        log_report(writer, make_report(), step)


def test_other_loggers_are_refused():
    with pytest.raises(InputError, match="no TensorBoard writer"):
        log_report(object(), make_report(), 0)


def test_names_become_one_segment():
    assert segment("a/b\\c\n") == "a_b_c_"
    assert segment("") == "prompt"
    assert len(segment("x" * 500)) == 80
