import lightning as L
import pytest
import torch

from lightning_modules.data.write_texts import WriteTexts
from lightning_modules.training.diff import (
    DiffDataModule,
    DiffNLATraining,
    DiffOracleTraining,
    all_sites,
    held_out_heads,
)
from lightning_modules.training.write_refinement import WriteRefinementTraining
from tests import zoo
from tests.oracle.tiny import make_oracle
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.oracle import DiffOracle
from tl_nla.oracle.questions import QUESTIONS, parse_answer
from tl_nla.oracle.texts import NOTHING, parse_label

SITES = ("heads", "blocks.1.mlp")


@pytest.fixture(scope="module")
def data(get_model):
    texts = [" ".join(f"w{i}" for i in zoo.tokens(1, 8, seed=n)[0].tolist()) for n in range(16)]
    docs = [Document(f"d/{n}", text) for n, text in enumerate(texts)]
    module = DiffDataModule(
        get_model("bridge", "llama"), zoo.tokenizer(), SITES, docs, positions_per_document=2, batch_size=16,
        heldout=0.3, heldout_heads=0.25, swap_share=0.5,
    )  # fmt: skip
    module.setup()
    return module


def fit(module, data, steps=2):
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=steps, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, limit_val_batches=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    trainer.validate(module, datamodule=data, verbose=False)
    return trainer.callback_metrics


def test_held_out_heads_are_never_trained_on(data):
    assert len(data.untrained) == 3
    assert not set(data.untrained) & set(data.train_writes.sites)
    assert set(data.untrained) <= set(data.heldout_writes.sites)
    assert all(label.strength is not None for label in data.heldout_writes.labels)


def test_items_tell_the_truth_about_their_write(data):
    items = WriteTexts(data.train_writes, swap_share=0.5)
    turned = 0
    for index in range(len(items)):
        item, row = items[index], index // 2
        sign = 1 if torch.equal(item["write"], data.train_writes.write[row]) else -1
        turned += sign < 0
        torch.testing.assert_close(item["write"], sign * data.train_writes.write[row])
        truth = data.train_writes.labels[row] if sign > 0 else data.train_writes.labels[row].swapped()
        if item["question"] == "explain":
            assert parse_label(item["text"]) == truth
        elif item["question"] == "promotes":
            assert parse_answer("promotes", item["text"]).tokens == truth.promoted
        elif item["question"] == "suppresses":
            assert parse_answer("suppresses", item["text"]).tokens == truth.suppressed
        else:
            assert sign > 0
    assert 0 < turned < len(items)
    assert {items[i]["question"] for i in range(len(items))} == {"explain", *QUESTIONS}


def test_reader_training_learns(data):
    oracle = make_oracle()
    with torch.no_grad():
        batch = next(iter(data.train_dataloader()))
        arguments = batch["before"], batch["write"], batch["questions"], batch["texts"]
        start = float(oracle.verbalizer.loss(*arguments))
    metrics = fit(DiffOracleTraining(oracle=oracle, learning_rate=3e-3), data, steps=8)
    with torch.no_grad():
        assert float(oracle.verbalizer.loss(*arguments)) < start - 0.1
    assert {"val/loss", "val/loss_shuffled"} <= set(metrics)
    assert oracle.strength is data.reference


def test_reconstructor_training_learns(data):
    oracle = make_oracle()
    oracle.fit(data.train_writes.before, data.train_writes.write)
    texts = [data.train_writes.text(row) for row in range(32)]
    with torch.no_grad():
        start = float(oracle.reconstructor.loss(texts, data.train_writes.write[:32]))
    metrics = fit(DiffNLATraining(oracle=oracle, learning_rate=3e-3), data, steps=40)
    with torch.no_grad():
        assert float(oracle.reconstructor.loss(texts, data.train_writes.write[:32])) < start - 0.05
    assert {"val/fve", "val/log_norm_error"} <= set(metrics)


def test_refinement_training_learns_and_changes_nothing_else(data):
    oracle = make_oracle()
    oracle.fit(data.train_writes.before, data.train_writes.write)
    module = WriteRefinementTraining(oracle=oracle, hidden=24, learning_rate=1e-2)
    before = {name: value.clone() for name, value in oracle.reconstructor.named_parameters()}
    texts, write = [data.train_writes.text(row) for row in range(32)], data.train_writes.write[:32]
    with torch.no_grad():
        start = float(oracle.reconstructor.loss(texts, write, prefix_weight=0.0))
    metrics = fit(module, data, steps=40)
    with torch.no_grad():
        assert float(oracle.reconstructor.loss(texts, write, prefix_weight=0.0)) < start - 0.05
    after = dict(oracle.reconstructor.named_parameters())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("refinement.") for name in changed)
    assert all(parameter.requires_grad for parameter in after.values())
    assert "val/fve" in metrics
    assert WriteRefinementTraining(oracle=oracle, hidden=7).reconstructor.refinement is oracle.reconstructor.refinement


def test_sites_by_group(get_model):
    model = get_model("bridge", "llama")
    assert len(all_sites(model, ["heads", "attn", "mlp", "blocks"])) == 12 + 3 + 3 + 3
    assert all_sites(model, ["mlp", "blocks.1.mlp"]) == [f"blocks.{i}.mlp" for i in range(3)]
    sites = all_sites(model, ["heads", "mlp"])
    assert held_out_heads(sites, 0.25, 1) == held_out_heads(sites, 0.25, 1) != held_out_heads(sites, 0.25, 2)
    with pytest.raises(InputError, match="nearest: heads"):
        all_sites(model, ["head"])


def test_refusals(get_model):
    with pytest.raises(InputError, match="swap_share is 1"):
        DiffDataModule(swap_share=1.0)
    with pytest.raises(InputError, match="call setup"):
        DiffDataModule().train_dataloader()


# PEFT 0.21 asks transformers for something under its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_trains_adapters_and_slots_only(data, tmp_path):
    peft = pytest.importorskip("peft")
    oracle = make_oracle()
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    oracle.verbalizer.model = peft.get_peft_model(oracle.verbalizer.model, settings)
    before = {name: value.clone() for name, value in oracle.verbalizer.named_parameters()}
    batch = next(iter(data.train_dataloader()))
    arguments = batch["before"], batch["write"], batch["questions"], batch["texts"]
    with torch.no_grad():
        start = float(oracle.verbalizer.loss(*arguments))
    fit(DiffOracleTraining(oracle=oracle, learning_rate=1e-2), data, steps=8)
    changed = {name for name, value in oracle.verbalizer.named_parameters() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora_" in name or name.startswith("slots.") for name in changed)
    with torch.no_grad():
        assert float(oracle.verbalizer.loss(*arguments)) < start
    oracle.save_pretrained(tmp_path / "oracle")  # the adapter is merged on the way out, and stays on the oracle
    again = DiffOracle.from_pretrained(tmp_path / "oracle")
    write, states = data.train_writes.write[:4], data.train_writes.before[:4]
    ids, _ = oracle.verbalizer.encode_responses(["red"] * 4)
    with torch.no_grad():
        torch.testing.assert_close(
            again.verbalizer(states, write, ids), oracle.verbalizer.eval()(states, write, ids), rtol=1e-3, atol=1e-3
        )


def test_several_questions_are_drawn_for_each_write(data):
    items = WriteTexts(data.train_writes, questions=3)
    assert len(items) == 4 * len(data.train_writes)
    asked = [items[index]["question"] for index in range(4, 8)]
    assert asked[0] == "explain"
    assert "explain" not in asked[1:]
    assert all(torch.equal(items[index]["write"], data.train_writes.write[1]) for index in range(4, 8))
    pairs = WriteTexts(data.train_writes)
    assert [pairs[index]["question"] == "explain" for index in range(4)] == [True, False] * 2


def test_shrunk_writes_are_called_nothing(data):
    items = WriteTexts(data.train_writes, null_share=0.5)
    shrunk = 0
    for index in range(0, len(items), 2):
        item = items[index]
        ratio = item["write"].norm() / item["before"].norm()
        if item["text"] == NOTHING:
            shrunk += 1
            assert ratio < 0.01
        else:
            assert torch.equal(item["write"], data.train_writes.write[index // 2])
    assert 0 < shrunk < len(items) // 2


def test_muon_trains_too(data):
    oracle = make_oracle()
    with torch.no_grad():
        batch = next(iter(data.train_dataloader()))
        arguments = batch["before"], batch["write"], batch["questions"], batch["texts"]
        start = float(oracle.verbalizer.loss(*arguments))
    fit(DiffOracleTraining(oracle=oracle, learning_rate=0.01, optimizer="muon"), data, steps=8)
    with torch.no_grad():
        assert float(oracle.verbalizer.loss(*arguments)) < start
    with pytest.raises(InputError, match="unknown optimizer"):
        DiffOracleTraining(oracle=oracle, optimizer="sgd")
