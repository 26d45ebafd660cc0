"""The two warm starts: their losses by hand, what they train, and that the vectors matter."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_modules.training.schedules import adapter_optimizer
from lightning_modules.training.warm_start import (
    ReconstructorWarmStart,
    VerbalizerWarmStart,
    create_nla,
    explanation_loss,
    reconstruction_loss,
)
from tests import vocabularies, zoo
from tests.nla.test_generation import make
from tl_nla.errors import InputError

TEXTS = ["red", "a blue ball", "green", "the end"]


@pytest.fixture
def batch():
    acts = torch.randn(4, zoo.D_MODEL, generator=torch.Generator().manual_seed(1))
    return {"acts": acts, "texts": TEXTS}


def test_the_words_loss_is_the_mean_over_real_tokens():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    ids, mask = torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([[True, True, True], [True, False, False]])
    log = logits.log_softmax(-1)
    by_hand = -(log[0, 0, 1] + log[0, 1, 2] + log[0, 2, 3] + log[1, 0, 4])
    torch.testing.assert_close(explanation_loss(logits, ids, mask), by_hand / 4)
    torch.testing.assert_close(explanation_loss(logits, ids, mask, torch.tensor(10)), by_hand / 10)


def test_the_vector_loss_is_twice_one_minus_cosine():
    preds, acts = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)).unbind()
    cosines = torch.nn.functional.cosine_similarity(preds, acts)
    torch.testing.assert_close(reconstruction_loss(preds, acts), (2 * (1 - cosines)).mean())
    torch.testing.assert_close(reconstruction_loss(preds, 7 * acts, torch.tensor(12.0)), (1 - cosines).mean())


@pytest.mark.parametrize("kind", [VerbalizerWarmStart, ReconstructorWarmStart])
def test_training_learns_its_part_and_leaves_the_other_alone(kind, batch):
    nla = make("llama", "affine")
    module = kind(nla=nla, learning_rate=3e-3)
    other = nla.reconstructor if kind is VerbalizerWarmStart else nla.verbalizer
    before = {name: value.clone() for name, value in other.state_dict().items()}
    loader = DataLoader([batch] * 12, batch_size=None)
    losses = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, *args):
            losses.append(float(outputs["loss"]))

    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, callbacks=[Keep()], limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize(("precision", "inside"), [("bf16-mixed", "eager"), ("32-true", "sdpa")])
def test_attention_is_spelled_out_in_bfloat16_steps_alone(batch, precision, inside):
    nla = make("llama", "affine")
    kinds = nla.verbalizer.model.config, nla.reconstructor.backbone.config
    seen = []
    for part in (nla.verbalizer, nla.reconstructor):
        part.register_forward_hook(lambda *_: seen.append([kind._attn_implementation for kind in kinds]))
    for number, kind in enumerate((VerbalizerWarmStart, ReconstructorWarmStart)):
        trainer = L.Trainer(
            accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
            enable_progress_bar=False, precision=precision, limit_val_batches=0,
        )  # fmt: skip
        loader = DataLoader([batch], batch_size=None)
        trainer.fit(kind(nla=nla), loader, loader)
        assert seen[-1][number] == inside
    assert [kind._attn_implementation for kind in kinds] == ["sdpa", "sdpa"]


def test_a_text_with_the_marker_is_taught_without_it(batch):
    nla = make("llama", "affine")
    marked = {**batch, "texts": [nla.verbalizer.prompt.char + text for text in TEXTS]}
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    module = VerbalizerWarmStart(nla=nla)
    (found,), (plain,) = (trainer.validate(module, DataLoader([one], batch_size=None), verbose=False)
                          for one in (marked, batch))  # fmt: skip
    assert found == plain


def test_validation_tells_what_the_vector_is_good_for(batch):
    nla = make("llama", "affine")
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    module = VerbalizerWarmStart(nla=nla)
    (found,) = trainer.validate(module, DataLoader([batch], batch_size=None), verbose=False)
    ids, mask = nla.verbalizer.encode_responses(TEXTS)
    with torch.no_grad():
        right = explanation_loss(nla.verbalizer(batch["acts"], ids, mask), ids, mask)
        wrong = explanation_loss(nla.verbalizer(batch["acts"].roll(1, 0), ids, mask), ids, mask)
    assert found["val/loss"] == pytest.approx(float(right), abs=1e-5)
    assert found["val/loss_shuffled"] == pytest.approx(float(wrong), abs=1e-5)
    assert right != wrong


def test_a_saved_pair_knows_its_layer(tmp_path):
    nla = make("llama", "affine")
    nla.mean = torch.zeros(zoo.D_MODEL)
    nla.save_pretrained(tmp_path)
    assert create_nla(str(tmp_path), 1, "affine").layer == 1
    with pytest.raises(InputError, match="is of layer 1, not 2; give layer 1"):
        create_nla(str(tmp_path), 2, "affine")


def test_the_marker_is_named_for_a_fresh_pair_only(tmp_path):
    tokenizer = vocabularies.tokenizer("llama2")
    zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    module = VerbalizerWarmStart(str(tmp_path / "model"), 1, injection_char="π")
    assert module.verbalizer.prompt.char == "π"
    assert module.hparams.injection_char == "π"
    assert ReconstructorWarmStart(str(tmp_path / "model"), 1).nla.verbalizer.prompt.char == "㈎"
    module.nla.save_pretrained(tmp_path)
    assert create_nla(str(tmp_path), 1, "affine", "π").verbalizer.prompt.char == "π"
    with pytest.raises(InputError, match="has the marker 'π'; leave out injection_char"):
        create_nla(str(tmp_path), 1, "affine", "㈎")


def test_adapters_take_ten_times_the_rate_of_whole_matrices():
    named = [("a.lora_A.weight", torch.nn.Parameter(torch.zeros(2, 2))),
             ("injection.weight", torch.nn.Parameter(torch.zeros(2, 2)))]  # fmt: skip
    optimizer = adapter_optimizer(named, 1e-2, 0.0, 100)["optimizer"]
    for _ in range(10):
        optimizer.step()
    assert [group["max_lr"] for group in optimizer.param_groups] == pytest.approx([1e-2, 1e-3])
    plain = adapter_optimizer(named[1:], 1e-2, 0.0, 100)["optimizer"]
    assert [group["max_lr"] for group in plain.param_groups] == [1e-2]
