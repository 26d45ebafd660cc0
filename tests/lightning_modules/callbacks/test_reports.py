import json

import lightning as L
import pytest
from jsonargparse import ArgumentParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.callbacks.reports import ContributionReportCallback, ShownConfig
from tests.lightning_modules import reporting
from tests.lightning_modules.forks import finished
from tests.lightning_modules.reporting import PROMPTS, Training, make_callback, train
from tl_nla.errors import InputError
from tl_nla.reports import ContributionReport, ReportConfig


def assert_same(one, other):
    """The same words, and the same numbers up to rounding."""
    assert len(one.cells) == len(other.cells)
    for mine, theirs in zip(one.rows(), other.rows(), strict=True):
        for name, value in mine.items():
            if isinstance(value, float):
                assert value == pytest.approx(theirs[name], abs=1e-5), name
            elif name != "sources":
                assert value == theirs[name], name


def test_reports_follow_the_training(tmp_path):
    callback = make_callback()
    _, module = train(tmp_path, callback=None, callbacks=[callback])
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0})
    events.Reload()
    for name in PROMPTS:
        steps = [event.step for event in events.Tensors(f"contributions/{name}")]
        assert steps == [1, 2]
        tables = events.Tensors(f"contributions/{name}/table/0/text_summary")
        said = [event.tensor_proto.string_val[0] for event in tables]
        assert len(set(said)) == 2
    weight = float(module.oracle.line.weight.detach().sum())
    assert f"weight {weight:.4f}" in callback.reports["first"].cells[2].explanation
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    assert set(module.state_dict()) == {"oracle.line.weight"}
    assert len(list((tmp_path / "run").glob("00002/*/metadata.tsv"))) == len(PROMPTS)


def test_reports_come_every_few_steps_and_at_the_end(tmp_path):
    train(tmp_path, None, callbacks=[make_callback(every_n_steps=5, oracle=None)])
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert [event.step for event in events.Tensors("contributions/second")] == [2]


def test_reports_tell_what_their_settings_ask_for(tmp_path):
    shown = ShownConfig("w5", [1, 2], images=False)
    callback = make_callback(oracle=None, shown=shown, config=ReportConfig(skips=False, explain={"max_new_tokens": 3}))
    train(tmp_path, None, callbacks=[callback])
    report = callback.reports["first"]
    assert report.positions == (1, 2)
    assert set(report.targets) == {"w5"}
    assert all(cell.skip_kl is None for cell in report.cells)


def test_the_callback_is_made_from_a_configuration_file():
    parser = ArgumentParser()
    parser.add_subclass_arguments(L.Callback, "callback")
    path = f"{ContributionReportCallback.__module__}.ContributionReportCallback"
    settings = {"prompts": ["a"], "shown": {"target": " red"}, "config": {"skips": False}}
    found = parser.parse_object({"callback": {"class_path": path, "init_args": settings}})
    callback = parser.instantiate(found).callback
    assert callback.shown == ShownConfig(" red")
    assert callback.config == ReportConfig(skips=False)


@pytest.mark.parametrize(
    ("prompts", "steps", "message"),
    [([], 5, "at least one text"), ("one text", 5, "a list of texts"), (["a"], 0, "at least 1 step")],
)
def test_bad_settings_are_refused(prompts, steps, message):
    with pytest.raises(InputError, match=message):
        ContributionReportCallback(prompts, steps)


def test_a_trainer_without_tensorboard_is_refused():
    trainer = L.Trainer(accelerator="cpu", devices=1, max_steps=1, logger=False, callbacks=[make_callback()],
                        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    with pytest.raises(InputError, match="TensorBoardLogger"):
        trainer.fit(Training())


@pytest.mark.slow
def test_two_processes_write_the_same_report_as_one(tmp_path_factory):
    tmp_path = finished(reporting.two, tmp_path_factory, "two")
    two = ContributionReport.from_dict(json.loads((tmp_path / "first.json").read_text()))
    callback = make_callback()
    train(tmp_path / "one", None, callbacks=[callback])
    assert_same(two, callback.reports["first"])
    assert len(list((tmp_path / "run").glob("events.*"))) == 1
