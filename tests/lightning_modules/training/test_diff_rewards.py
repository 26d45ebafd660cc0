import copy

import lightning as L
import pytest
import torch

from lightning_modules.callbacks.samples import ExplanationSamples
from lightning_modules.training.diff import DiffDataModule
from lightning_modules.training.diff_rewards import DiffNLAReinforcement
from lightning_modules.training.nla_training import RewardConfig
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from tests import zoo
from tests.lightning_modules.grouping import made
from tests.oracle.tiny import make_oracle
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.nla import Generation, RolloutConfig
from tl_nla.nla.reference import LoraSettings
from tl_nla.nla.rollouts import BuiltInBackend
from tl_nla.oracle.questions import EXPLAIN


class Closed(BuiltInBackend):
    """Random weights hardly ever end a sentence; here every sentence counts as ended."""

    def sample(self, verbalizer, acts, config, generator=None):
        found = super().sample(verbalizer, acts, config, generator)
        return Generation(found.texts, torch.ones_like(found.extracted), found.responses)


@pytest.fixture(scope="module")
def data(get_model):
    texts = [" ".join(f"w{i}" for i in zoo.tokens(1, 7, seed=n)[0].tolist()) for n in range(8)]
    module = made(
        DiffDataModule,
        get_model("bridge", "llama"),
        zoo.tokenizer(),
        ("heads",),
        source=[Document(f"d/{n}", t) for n, t in enumerate(texts)],
        positions_per_document=1,
        batch_size=6,
        heldout=0.3,
        skips=False,
    )
    module.setup()
    return module


def test_both_parts_learn_and_the_words_are_scored(data):
    oracle = make_oracle()
    module = DiffNLAReinforcement(
        oracle=oracle, rates=RateConfig(1e-3, 1e-3), policy=PolicyConfig(kl_weight=0.1, backend=Closed()),
        rollouts=RolloutConfig(group=3, max_new_tokens=8),
    )  # fmt: skip
    before = {name: value.clone() for name, value in oracle.state_dict().items()}
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=2, limit_val_batches=1, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    changed = {
        name.split(".")[0] for name, value in oracle.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"verbalizer", "reconstructor"}
    logged = trainer.callback_metrics
    assert {"train/reward", "train/fve", "train/kl"} <= set(logged)
    assert float(logged["train/mismatch"]) < 1e-4
    assert -4.5 < float(logged["train/reward"]) < 0
    [found] = trainer.validate(module, datamodule=data, verbose=False)
    assert {"val/fve", "val/extraction_rate", "val/length"} == set(found)


def test_reward_is_the_error_of_the_write(data):
    module = DiffNLAReinforcement(oracle=make_oracle(), policy=PolicyConfig(kl_weight=0.0))
    before, write = data.train_writes.before[:4], data.train_writes.write[:4]
    acts = torch.cat([before, write], 1)
    assert torch.equal(module.targets(acts), write)
    errors, trained = module.read_errors(["It promotes a"] * 4, acts)
    assert errors.shape == trained.shape == (4,)
    assert bool((trained >= errors).all())


def test_settings_of_states_are_refused():
    for settings, message in (
        ({"lora": LoraSettings()}, "lora is no setting"),
        ({"reward": RewardConfig(budget_from=2)}, "budget_from is 2"),
    ):
        with pytest.raises(InputError, match=message):
            DiffNLAReinforcement(oracle=make_oracle(), **settings)


def test_samples_of_writes_are_shown(data):
    oracle = make_oracle()
    module = DiffNLAReinforcement(oracle=oracle, policy=PolicyConfig(kl_weight=0.0))
    trainer = L.Trainer(accelerator="cpu", logger=False)
    trainer.datamodule = data
    table, fraction = ExplanationSamples(1, 5, 8).table(trainer, module)
    acts, labels = data.heldout_rows(5)
    assert acts.shape == (5, 2 * oracle.d_model)
    held = data.heldout_writes
    shown = [row for row in range(len(held)) if torch.equal(held.write[row], acts[-1, oracle.d_model :])]
    assert labels[-1] in [held.text(row) for row in shown]
    assert table.count("\n") == 1 + 5 + 1
    assert -9 < fraction < 1


def test_explanations_alone_are_served_without_questions(data):
    alone = copy.copy(data)
    alone.questions = 0
    asked = [batch["questions"] for batch in (*alone.train_dataloader(), *alone.val_dataloader())]
    assert {question for batch in asked for question in batch} == {EXPLAIN}
    with pytest.raises(InputError, match="questions is -1"):
        made(DiffDataModule, questions=-1)
