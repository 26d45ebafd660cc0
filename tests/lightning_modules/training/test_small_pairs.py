"""A small pair's verbalizer goes on where it was killed: its slots are not started afresh."""

import shutil

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.callbacks.resume import ExactResume
from lightning_modules.callbacks.saving import SaveNLA
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.settings import CorpusConfig, ServingConfig, WordsConfig
from lightning_modules.training.warm_start import VerbalizerWarmStart
from tests import zoo
from tl_nla.data import Document
from tl_nla.model.loading import load_tokenizer
from tl_nla.nla.adapted import AdaptedPair, adapted_nla
from tl_nla.nla.reference import LoraSettings
from tl_nla.nla.slot_start import never_trained
from tl_nla.storyworld.tiny import WEIGHTS

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
TOKENIZER = load_tokenizer(WEIGHTS / "target")


def fitted(get_model, folder, steps, **settings):
    model = zoo.hf_model("llama", vocab_size=len(TOKENIZER), max_position_embeddings=256)
    torch.manual_seed(0)
    nla = adapted_nla(model, TOKENIZER, AdaptedPair(1, 3, LoraSettings(2, 4.0)))
    names = ["Tom", "Mia", "Ben", "Lily"]
    documents = [Document(f"{n}", f"{names[n % 4]} went to the {place}. Then {names[n // 4]} went home.")
                 for n, place in enumerate(["market", "park", "lake", "garden"] * 4)]  # fmt: skip
    data = ActivationDataModule(
        get_model("bridge", "llama"), zoo.tokenizer(), "blocks.1.hook_resid_post",
        CorpusConfig(documents, 16, 3, 0.3), WordsConfig("short"), ServingConfig(4),
    )  # fmt: skip
    callbacks = [
        ExactResume(),
        ModelCheckpoint(folder, every_n_train_steps=2, save_last=True),
        SaveNLA(str(folder / "nla")),
    ]
    trainer = L.Trainer(
        accelerator="cpu", max_steps=steps, callbacks=callbacks, logger=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    module = VerbalizerWarmStart(nla=nla, learning_rate=1e-2)
    trainer.fit(module, datamodule=data, **settings)
    return module


def test_it_goes_on_where_it_was(get_model, tmp_path):
    fitted(get_model, tmp_path / "one", 2)
    whole = fitted(get_model, tmp_path / "whole", 4)
    saved = torch.load(tmp_path / "one" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(".lora_" in name or ".injection." in name for name in saved), "nothing of the target is in a checkpoint"
    (tmp_path / "last.ckpt").write_bytes((tmp_path / "one" / "last.ckpt").read_bytes())
    shutil.rmtree(tmp_path / "one")
    resumed = fitted(get_model, tmp_path / "one", 4, ckpt_path=str(tmp_path / "last.ckpt"))
    assert not never_trained(resumed.verbalizer)
    for name, value in whole.verbalizer.injection.named_parameters():
        own = dict(resumed.verbalizer.injection.named_parameters())[name]
        assert (own - saved[f"verbalizer.injection.{name}"]).abs().max() > 0, "it was trained on"
        # one-cycle rates belong to the length of the run, so that the first two steps differ a little
        assert torch.allclose(own, value, atol=0.02)
    assert {path.name for path in (tmp_path / "whole" / "nla").iterdir()} == {"adapters.json", "adapters.safetensors"}
