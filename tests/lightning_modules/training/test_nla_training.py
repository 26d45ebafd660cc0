"""Joint training: gradients, guard, checkpoints, adapters, resume. Fixed rollouts make every step repeatable."""

import copy

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lightning_modules.training.nla_training import NLATraining, RewardConfig, load_pair
from tests import zoo
from tests.lightning_modules.rewarded import rewarded
from tests.nla.test_generation import make
from tl_nla.errors import InputError
from tl_nla.nla.adapted import AdaptedPair
from tl_nla.nla.generation import Responses
from tl_nla.nla.policy import mean_squared_errors
from tl_nla.nla.reference import LoraSettings, add_lora
from tl_nla.nla.rollouts import RolloutConfig, token_logprobs
from tl_nla.nla.verbalizer import Generation

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
]
WORDS = ("ab", "cdef", "ghi", "jklmn")
ROLLOUTS = RolloutConfig(group=4, max_new_tokens=40)


class FixedBackend:
    """Gives every activation the same four explanations, with the policy's log-probabilities of them."""

    exact = True

    def __init__(self, words=WORDS, spoil=False):
        self.words, self.spoil = words, spoil

    def sample(self, verbalizer, acts, config, generator=None):
        ids, mask = verbalizer.encode_responses(list(self.words) * len(acts))
        rows = acts.repeat_interleave(config.group, 0)
        with torch.no_grad():
            logprobs = token_logprobs(verbalizer, rows, ids, mask, config.temperature)
        extracted = torch.ones(len(rows), dtype=torch.bool)
        if self.spoil:
            logprobs = logprobs * float("nan")
        return Generation(list(self.words) * len(acts), extracted, Responses(ids, mask, logprobs, extracted))


@pytest.fixture
def nla():
    return make("llama")


@pytest.fixture(scope="module")
def acts():
    return torch.randn(6, zoo.D_MODEL, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def loader(acts):
    return DataLoader([{"acts": act} for act in acts], batch_size=3)


def module(nla, **settings):
    settings = {"rollouts": ROLLOUTS, "backend": FixedBackend(), "learning_rate": 1e-3, **settings}
    return NLATraining(nla=nla, **rewarded(reconstructor_learning_rate=1e-3, **settings))


def test_batches_that_make_no_step_are_refused(nla, loader):
    trainer = L.Trainer(accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0)  # fmt: skip
    with pytest.raises(InputError, match="2 epochs of 2 batches make no step of 5 batches"):
        trainer.fit(module(nla, accumulate=5), loader, loader)


def fit(training, loader, steps, folder, checkpoint=None, validated=0, callbacks=None):
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, enable_progress_bar=False, logger=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        enable_checkpointing=bool(callbacks), limit_val_batches=validated, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(training, loader, loader, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return trainer


@torch.no_grad()
def expected_reward(nla, acts):
    """Mean reward when each activation's words are drawn from the policy among the four."""
    ids, mask = nla.verbalizer.encode_responses(list(WORDS) * len(acts))
    rows = acts.repeat_interleave(4, 0)
    chance = token_logprobs(nla.verbalizer, rows, ids, mask).sum(1).view(-1, 4).softmax(1)
    errors = mean_squared_errors(nla.reconstruct(list(WORDS) * len(acts)), rows).view(-1, 4)
    return -(chance * errors).sum(1).mean()


def test_two_steps_raise_the_reward(nla, acts, tmp_path):
    before = expected_reward(nla, acts[:3])
    training = module(nla, kl_weight=0.0, learning_rate=5e-3)
    fit(training, DataLoader([{"acts": act} for act in acts[:3]], batch_size=3), 2, tmp_path)
    assert expected_reward(nla, acts[:3]) > before + 0.01


def test_the_verbalizer_learns_by_reward_alone(nla, acts):
    """The reconstructor is kept as it was: what rises is the chance of the better words."""
    training = module(nla, kl_weight=0.0)
    training.mean = None
    before = expected_reward(nla, acts)
    optimizer = torch.optim.SGD(training.verbalizer.parameters(), lr=0.5)
    for _ in range(2):
        loss, _logs = training.losses(training.explore(acts))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert expected_reward(nla, acts) > before + 1e-3


def test_gradients_of_the_two_parts_do_not_meet(nla, acts):
    training = module(nla, kl_weight=0.0, backend=FixedBackend(["ab"] * 4))  # equal rewards: no advantage
    training.mean = None
    loss, logs = training.losses(training.explore(acts))
    loss.backward()
    verbalizer = [p.grad for p in nla.verbalizer.parameters() if p.grad is not None]
    assert all(not gradient.any() for gradient in verbalizer)
    assert any(p.grad is not None and p.grad.any() for p in nla.reconstructor.parameters())
    assert logs["reward_deviation"] == 0
    expected = mean_squared_errors(nla.reconstruct(["ab"] * len(acts)), acts).mean()
    torch.testing.assert_close(logs["reconstruction_loss"], expected)


def test_reference_stays_the_warm_start(nla, acts, loader, tmp_path):
    before = copy.deepcopy(nla.verbalizer)
    training = module(nla)
    fit(training, loader, 2, tmp_path)
    found = FixedBackend().sample(nla.verbalizer, acts, ROLLOUTS)
    rows = acts.repeat_interleave(4, 0)
    with torch.no_grad():
        expected = token_logprobs(before, rows, found.ids, found.mask)
    torch.testing.assert_close(training.frozen.logprobs(rows, found.ids, found.mask), expected)
    assert (expected - found.logprobs).abs().max() > 1e-3, "nothing was trained"
    _, logs = training.losses(training.explore(acts))
    assert logs["kl"] > 0
    assert logs["mismatch"] < 1e-4


def test_failed_rows_and_long_ones_are_punished(nla, acts):
    training = module(nla, reward=RewardConfig(length_penalty=0.5, length_free=0))
    training.mean = None
    found = training.explore(acts)
    _, with_penalty = training.losses(found)
    lengths = found.generation.mask.sum(1).float().mean()
    training.reward = RewardConfig()
    _, plain = training.losses(found)
    torch.testing.assert_close(with_penalty["reward"], plain["reward"] - 0.5 * lengths)
    found.generation.extracted[:] = False
    _, failed = training.losses(found)
    assert failed["reward"] == -2
    assert failed["reconstruction_loss"] == 0


def test_prefix_budgets_cut_what_is_read_and_what_is_credited(nla, acts):
    training = module(nla, reward=RewardConfig(budget_from=1, budget_to=1))
    found = training.explore(acts)
    assert found.texts == [word[:1] for word in WORDS] * len(acts)
    assert (found.credited.sum(1) < found.generation.mask.sum(1)).all()


def test_steps_that_are_not_finite_are_skipped(nla, loader, tmp_path):
    training = module(nla, updates=2, backend=FixedBackend(spoil=True))  # two updates use the sampled log-probabilities
    before = {name: value.clone() for name, value in training.state_dict().items()}
    with pytest.raises(InputError, match="in a row"):
        fit(training, loader, 100, tmp_path)
    assert training.skipped == 20
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())


def test_checkpoints_hold_what_is_trained_and_resume_exactly(nla, acts, tmp_path):
    loader = DataLoader([{"acts": act} for act in acts], batch_size=len(acts))
    whole, resumed = (module(copy.deepcopy(nla)) for _ in range(2))
    fit(whole, loader, 4, tmp_path, callbacks=[ModelCheckpoint(tmp_path, "{step}", save_top_k=-1)])
    content = torch.load(tmp_path / "step=2.ckpt", weights_only=True)
    assert set(content["state_dict"]) == {name for name, p in whole.named_parameters() if p.requires_grad}
    assert content["nla_training"] == {"batches": 2, "skipped": 0}
    again = [ModelCheckpoint(tmp_path, "{step}", save_top_k=-1)]
    fit(resumed, loader, 4, tmp_path, checkpoint=tmp_path / "step=2.ckpt", callbacks=again)
    assert resumed.batches == 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_training_is_refused(nla, loader, tmp_path):
    trainer = fit(module(copy.deepcopy(nla)), loader, 1, tmp_path)
    trainer.save_checkpoint(tmp_path / "full.ckpt")
    with pytest.raises(InputError, match="other weights"):
        NLATraining.load_from_checkpoint(tmp_path / "full.ckpt", nla=nla, lora=LoraSettings(rank=2), weights_only=True)


def test_adapters_alone_are_trained(nla, acts, loader, tmp_path):
    pytest.importorskip("peft")
    before = copy.deepcopy(nla.verbalizer)
    training = module(nla, lora=LoraSettings(rank=2), learning_rate=1e-2)
    names = training.trained_names()
    assert names
    assert all("lora_" in name or name == "reconstructor.head.weight" for name in names)
    fit(training, loader, 2, tmp_path).save_checkpoint(tmp_path / "lora.ckpt")
    assert set(torch.load(tmp_path / "lora.ckpt", weights_only=True)["state_dict"]) == names
    found = FixedBackend().sample(nla.verbalizer, acts, ROLLOUTS)
    rows = acts.repeat_interleave(4, 0)
    with torch.no_grad():
        expected = token_logprobs(before, rows, found.ids, found.mask)
    torch.testing.assert_close(training.frozen.logprobs(rows, found.ids, found.mask), expected)
    assert (expected - found.logprobs).abs().max() > 1e-4, "the adapter was not trained"


@pytest.mark.parametrize("injection", [False, True])
def test_the_reference_of_a_pair_with_trained_adapters_is_that_pair(acts, loader, tmp_path, injection):
    """Switching such an adapter off would give the base model, to which nobody wants to stay close."""
    pytest.importorskip("peft")
    nla = make("llama", "affine")
    add_lora(nla, LoraSettings(rank=2))
    with torch.no_grad():
        for name, parameter in nla.verbalizer.model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    nla.verbalizer.injection.requires_grad_(injection)
    training = module(nla, learning_rate=1e-2)
    found = FixedBackend().sample(nla.verbalizer, acts, ROLLOUTS)
    rows = acts.repeat_interleave(4, 0)
    with torch.no_grad():
        expected = token_logprobs(nla.verbalizer, rows, found.ids, found.mask)
        with nla.verbalizer.model.disable_adapter():
            base = token_logprobs(nla.verbalizer, rows, found.ids, found.mask)
    fit(training, loader, 2, tmp_path)
    with torch.no_grad():
        trained = token_logprobs(nla.verbalizer, rows, found.ids, found.mask)
    torch.testing.assert_close(training.frozen.logprobs(rows, found.ids, found.mask), expected)
    assert min(float((other - expected).abs().max()) for other in (base, trained)) > 1e-4
    own = {p.data_ptr() for p in nla.verbalizer.parameters() if not p.requires_grad}
    assert own <= {p.data_ptr() for p in training.frozen._copy.parameters()}, "frozen weights are kept twice"


def test_a_small_pair_takes_no_second_adapter():
    pytest.importorskip("peft")
    nla = make("llama", "affine")
    nla.adapted = AdaptedPair(1, 1)
    with pytest.raises(InputError, match="leave out the settings of LoRA"):
        module(nla, lora=LoraSettings(rank=2))


def test_master_weights_are_float32(nla, loader, tmp_path):
    nla.verbalizer.model.bfloat16()
    training = module(nla)
    assert {p.dtype for p in training.parameters()} == {torch.float32}
    training.verbalizer.model.bfloat16()
    with pytest.raises(InputError, match="bf16-mixed"):
        fit(training, loader, 1, tmp_path)


def test_each_part_has_its_own_rate(nla):
    training = module(nla, learning_rate=4e-3, warmup_steps=4, decay_steps=10)
    groups = training.configure_optimizers().param_groups
    assert [group["lr"] for group in groups] == [4e-3, 1e-3]
    assert len(groups[0]["params"]) + len(groups[1]["params"]) == len(training.trained_names())


def test_rates_cannot_fall_before_they_begin_to(nla):
    with pytest.raises(InputError, match=r"decay_from is 10; .* below decay_steps \(10\)"):
        module(nla, decay_from=10, decay_steps=10)


def test_accumulation_steps_every_second_batch(nla, loader, tmp_path):
    training = module(nla, accumulate=2)
    trainer = fit(training, loader, 2, tmp_path)
    assert training.batches == 4
    assert trainer.global_step == 2


def test_everything_is_logged(nla, loader, tmp_path):
    nla.mean = torch.zeros(zoo.D_MODEL)
    trainer = fit(module(nla), loader, 2, tmp_path, validated=1)
    names = {"reward", "fve", "kl", "length", "extraction_rate", "mismatch", "skipped", "gradient_norm_av"}
    assert {f"train/{name}" for name in names} <= set(trainer.callback_metrics)
    assert {"val/fve", "val/extraction_rate", "val/length"} <= set(trainer.callback_metrics)


@pytest.mark.parametrize("settings", [{"updates": 0}, {"accumulate": 0}])
def test_counts_below_one_are_refused(nla, settings):
    with pytest.raises(InputError, match="at least 1"):
        module(nla, **settings)
    with pytest.raises(InputError, match="one of them"):
        module(nla, updates=2, accumulate=2)


def test_a_folder_without_a_pair_is_named(tmp_path):
    with pytest.raises(InputError, match="warm-started pair"):
        load_pair(str(tmp_path))


@pytest.mark.parametrize("settings", [{"length_penalty": -1.0}, {"budget_from": 0}])
def test_rewards_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError):
        RewardConfig(**settings)
