import lightning as L
import pytest
import torch

from docs.studies.tiny.tokenizer import build_tokenizer
from lightning_modules.callbacks.faithfulness import FaithfulnessCallback, WordMeasures
from lightning_modules.data.activations import StateExplanations
from lightning_modules.training.warm_start import ReconstructorWarmStart
from tests import zoo
from tests.faithfulness.helpers import explained
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.faithfulness.scoring import training_mean
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.nla.prompts import TINY_AR_TEMPLATE, TINY_AV_TEMPLATE

TOKENIZER = build_tokenizer()


def make_pair(seed=0):
    torch.manual_seed(seed)
    model = zoo.hf_model("llama", vocab_size=len(TOKENIZER), max_position_embeddings=256, hidden_size=48)
    templates = {"av_template": TINY_AV_TEMPLATE, "ar_template": TINY_AR_TEMPLATE}
    return NLA.create(model, TOKENIZER, 1, InjectionConfig("constant", 1.0), **templates)


def states(rows=24, size=48):
    texts, truths, positions, read = explained(rows)
    acts = torch.randn(rows, size, generator=torch.Generator().manual_seed(1))
    return ExplainedStates(acts, texts, truths, read, torch.arange(rows) // 2, positions)


def collate(rows):
    return {"acts": torch.stack([act for act, _ in rows]), "texts": [text for _, text in rows]}


class Data(L.LightningDataModule):
    """Rows as the data module of activations gives them."""

    def __init__(self, rows):
        super().__init__()
        self.train_states, self.mean = rows, training_mean(rows.acts)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(StateExplanations(self.train_states), batch_size=8, collate_fn=collate)

    val_dataloader = train_dataloader


def fit(pair, data, **settings):
    trainer = L.Trainer(
        accelerator="cpu", max_steps=3, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(ReconstructorWarmStart(nla=pair), datamodule=data)


def test_callback_measures_before_during_and_after_without_leaving_a_trace():
    pair, data = make_pair(), Data(states())
    other = make_pair(3)
    clean = (zoo.hf_model("llama", vocab_size=len(TOKENIZER), max_position_embeddings=256), TOKENIZER)
    watch = FaithfulnessCallback(
        data.train_states,
        data.mean,
        every=2,
        references={"other": other.reconstruct},
        clean=clean,
        measures=WordMeasures(max_new_tokens=12),
    )
    before = {name: value.clone() for name, value in pair.verbalizer.state_dict().items()}
    fit(pair, data)
    after = {name: value.clone() for name, value in pair.reconstructor.state_dict().items()}
    alone = watch.measure(pair)
    assert {"fve", "retention", "extraction_rate", "cross_reconstructor_gap/other", "legibility"} <= set(alone)
    assert all(torch.equal(value, pair.reconstructor.state_dict()[name]) for name, value in after.items())

    pair = make_pair()
    fit(pair, data, callbacks=[watch])
    assert [entry["step"] for entry in watch.history] == [0, 2, 3]
    for name, value in after.items():  # measuring changed nothing about the training
        torch.testing.assert_close(pair.reconstructor.state_dict()[name], value)
    for name, value in before.items():
        assert torch.equal(pair.verbalizer.state_dict()[name], value)


def test_callback_needs_a_pair_and_a_mean():
    with pytest.raises(InputError, match="at least 1"):
        FaithfulnessCallback(states(), every=0)
    with pytest.raises(InputError, match="mean is not known"):
        FaithfulnessCallback(states(), measures=WordMeasures(max_new_tokens=4)).measure(make_pair())
