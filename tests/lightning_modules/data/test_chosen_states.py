"""Rows say what the best of several says, share by share, and a run that was cut off ends in the same files."""

import lightning as L
import pytest
import torch

from lightning_modules.data.captured import CapturedDataModule
from lightning_modules.data.chosen_states import choose_explanations
from lightning_modules.training.warm_start import VerbalizerWarmStart
from tests import zoo
from tests.nla.test_generation import make
from tl_nla.data.shards import (
    Shard,
    Texts,
    begin_capture,
    finish_capture,
    read_mean,
    read_shard,
    shard_path,
    write_shard,
)
from tl_nla.errors import InputError
from tl_nla.nla import BestOf
from tl_nla.nla.adaptation import adapt
from tl_nla.nla.answers import AnswerRule

SIZES = [(7, 5), (4, 4), (6, 3)]
CAP = {"max_new_tokens": 6}


@pytest.fixture(scope="module")
def pair():
    nla = make("llama")
    nla.verbalizer.answers = AnswerRule("all")  # random weights never close a tag
    return nla


def capture(folder, sizes):
    folder.mkdir()
    for number, (rows, train) in enumerate(sizes):
        acts = torch.randn(rows, zoo.D_MODEL, generator=torch.Generator().manual_seed(number))
        texts = [f"{number}-{row}" for row in range(rows)]
        packed, counted = (Texts.pack(texts), Texts.pack(texts)), (torch.arange(rows), torch.arange(rows))
        write_shard(folder, number, Shard(acts, *packed, *counted, train))
    finish_capture(folder, len(sizes))
    return folder


@pytest.fixture
def source(tmp_path):
    return capture(tmp_path / "source", SIZES)


def test_training_rows_say_the_best_and_held_out_ones_what_was_written(pair, source, tmp_path):
    best = BestOf(pair, 3, 1.0)
    index = choose_explanations(best, source, tmp_path / "out", **CAP)
    assert [(file["rows"], file["train"]) for file in index["shards"]] == SIZES
    assert torch.equal(read_mean(tmp_path / "out"), read_mean(source))
    for number, (_, train) in enumerate(SIZES):
        before, after = (read_shard(shard_path(folder, number)) for folder in (source, tmp_path / "out"))
        assert torch.equal(before.acts, after.acts)
        said = [after.explanations[row] for row in range(len(after))]
        written = [before.explanations[row] for row in range(len(before))]
        expected = [text.strip() for text in best.verbalize(before.acts[:train], **CAP)]
        assert said[:train] == [text or old for text, old in zip(expected, written, strict=False)]
        assert said[train:] == written[train:]


def test_a_share_of_the_rows_and_a_run_that_goes_on(pair, source, tmp_path):
    best, out = BestOf(pair, 2, 1.0), tmp_path / "out"
    index = choose_explanations(best, source, out, rows=6, **CAP)
    assert index["train"] == 6
    assert [file["rows"] - file["train"] for file in index["shards"]] == [2, 0, 3]
    kept = [shard_path(out, number).read_bytes() for number in range(3)]
    shard_path(out, 1).unlink()
    shard_path(out, 2).write_bytes(b"half")
    choose_explanations(best, source, out, rows=6, **CAP)
    assert [shard_path(out, number).read_bytes() for number in range(3)] == kept


def test_what_cannot_be_taught_keeps_the_written_words(pair, tmp_path, monkeypatch):
    found = pair.generate(torch.randn(5, zoo.D_MODEL), **CAP)
    found.texts[:] = ["good words", "<eos> ", "<explanation>a tag", "kept <eos> words", "failed"]
    found.extracted[:] = torch.tensor([True, True, True, True, False])
    monkeypatch.setattr(BestOf, "generate", lambda self, acts, **settings: found)
    source, out = capture(tmp_path / "source", SIZES[:1]), tmp_path / "out"
    choose_explanations(BestOf(pair, 2), source, out)
    shard = read_shard(shard_path(out, 0))
    said = [shard.explanations[row] for row in range(shard.train)]
    assert said == ["good words", "0-1", "0-2", "kept  words", "0-4"]


def test_other_settings_and_too_many_rows_are_refused(pair, source, tmp_path):
    choose_explanations(BestOf(pair, 2), source, tmp_path / "out", rows=3, **CAP)
    other = make("gemma2")
    other.verbalizer.answers = AnswerRule("all")
    for best in (BestOf(pair, 4), BestOf(other, 2)):
        with pytest.raises(InputError, match="holds a capture with chosen"):
            choose_explanations(best, source, tmp_path / "out", rows=3, **CAP)
    choose_explanations(BestOf(pair, 2), source, tmp_path / "out", rows=3, batch_size=2, **CAP)
    with pytest.raises(InputError, match=r"rows is 13; .* has 12 states"):
        choose_explanations(BestOf(pair, 2), source, tmp_path / "more", rows=13)
    with pytest.raises(InputError, match="is no capture"):
        choose_explanations(BestOf(pair, 2), tmp_path / "none", tmp_path / "more")


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 10_000}, {"temperature": 0.5}, {"batch_size": 0}])
def test_a_wrong_setting_leaves_nothing_behind(pair, source, tmp_path, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        choose_explanations(BestOf(pair, 2), source, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="is the capture that is read; give another folder"):
        choose_explanations(BestOf(pair, 2), source, source, **CAP)


@pytest.mark.usefixtures("unchecked")
def test_a_pair_that_does_not_fit_is_refused(pair, source, tmp_path):
    there = torch.randn(40, zoo.D_MODEL, generator=torch.Generator().manual_seed(1))
    for other, name in ((pair, "NLA"), (BestOf(adapt(pair, there, there, 0), 2), "AdaptedNLA")):
        with pytest.raises(InputError, match=f"{name} chooses nothing, or names no site; give BestOf"):
            choose_explanations(other, source, tmp_path / "out")
    begin_capture(source, {"site": "blocks.0.hook_resid_post"})
    with pytest.raises(InputError, match=r"holds states of blocks\.0\..*; this pair explains blocks\.1\."):
        choose_explanations(BestOf(pair, 2), source, tmp_path / "out")


def test_a_verbalizer_learns_them(pair, source, tmp_path):
    choose_explanations(BestOf(pair, 2), source, tmp_path / "out", **CAP)
    data = CapturedDataModule(str(tmp_path / "out"), batch_size=4)
    module = VerbalizerWarmStart(nla=make("llama"), learning_rate=1e-3)
    before = {name: value.clone() for name, value in module.named_parameters()}
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert any(not torch.equal(before[name], value) for name, value in module.named_parameters())
    assert trainer.callback_metrics["val/loss"].isfinite()
