"""Training by reward in micro-batches, with activations computed again, on a frozen base in bfloat16.

The slow reference is the whole batch in one backward pass. Its memory is that of tensors made inside a block.
"""

import copy

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_modules.training.diff_rewards import DiffNLAReinforcement
from lightning_modules.training.nla_training import NLATraining, RewardConfig
from lightning_modules.training.policy_config import PolicyConfig, RateConfig
from lightning_modules.training.policy_losses import LossShares
from tests import zoo
from tests.lightning_modules.training.test_diff_rewards import Closed
from tests.lightning_modules.two_processes import RowBackend
from tests.nla.test_generation import make
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.errors import InputError
from tl_nla.model.checkpointing import checkpointed
from tl_nla.model.families import decoder_layers
from tl_nla.nla import LoraSettings, RolloutConfig
from tl_nla.nla.batching import micro_batches
from tl_nla.oracle.policy import side_by_side

GROUP = 4
ROLLOUTS = RolloutConfig(group=GROUP, max_new_tokens=16)
SMALL = {"micro_batch": 5, "gradient_checkpointing": True}
QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False,
         "enable_model_summary": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}  # fmt: skip


class OtherPolicy(RowBackend):
    """A sampler whose log-probabilities are not those of the policy: ratios leave one, so that clipping matters."""

    exact = False

    def sample(self, verbalizer, acts, config, generator=None):
        found = super().sample(verbalizer, acts, config, generator)
        noise = torch.randn(found.logprobs.shape, generator=torch.Generator().manual_seed(1))
        found.responses.logprobs.add_(0.3 * noise)
        return found


@pytest.fixture(scope="module")
def pairs():
    return {kind: make(*kind) for kind in (("llama", "affine"), ("neox", "additive"))}


@pytest.fixture
def pair(pairs):
    return copy.deepcopy(pairs["llama", "affine"])


def acts_of(rows, seed=3):
    return torch.randn(rows, zoo.D_MODEL, generator=torch.Generator().manual_seed(seed))


def build(pair, lora=None, reward=None, **policy):
    policy = {"kl_weight": 0.5, "backend": RowBackend(), **policy}
    module = NLATraining(nla=pair, rollouts=ROLLOUTS, reward=reward, policy=PolicyConfig(**policy), lora=lora)
    module.mean = None
    return module


def randomise_adapters(module):
    """Away from zero, where the first of two adapter matrices has no gradient."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)


def gradients(module, acts):
    """Loss, numbers that are logged, and gradients, each share sent backward on its own."""
    sent = []

    def backward(share, last):
        sent.append(last)
        share.backward()

    loss, logs = module.losses(module.explore(acts), backward)
    assert not loss.requires_grad
    assert sent[-1]
    assert not any(sent[:-1])
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return {"loss": loss, **logs}, found, len(sent)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def both(whole, acts, small=SMALL):
    """Gradients of a module in micro-batches and of the same one in one batch."""
    expected, right, once = gradients(whole, acts)
    assert once == 1
    whole.policy = PolicyConfig(**{**vars(whole.policy), **small})
    logs, found, times = gradients(whole, acts)
    assert_same(logs, expected)
    assert_same(found, right)
    assert any(value.abs().max() > 1e-3 for value in right.values()), "there was nothing to compare"
    return times


@pytest.mark.parametrize(
    ("reward", "policy"),
    [
        (RewardConfig(), {}),
        (RewardConfig(budget_from=1, budget_to=6), {"kl_weight": 0.0}),
        (RewardConfig(log=True, length_penalty=0.1, length_free=3, scale_advantages=False), {"updates": 2}),
        (RewardConfig(), {"clip": 0.2, "updates": 2, "backend": OtherPolicy()}),
    ],
)
def test_gradients_are_those_of_the_whole_batch(reward, policy, pair):
    """Rows fail, differ in length, and are credited in part."""
    module = build(pair, reward=reward, **policy)
    assert both(module, acts_of(6)) == 9  # twice five micro-batches of 24 rows, the last two of them together


@pytest.mark.parametrize("micro_batch", [1, 23, 100])
def test_any_size_of_a_micro_batch_will_do(micro_batch, pair):
    both(build(pair), acts_of(6), {"micro_batch": micro_batch})


@pytest.mark.parametrize("kind", [("neox", "additive"), ("llama", "affine")])
def test_gradients_of_adapters_are_those_of_the_whole_batch(kind, pairs):
    """Frozen embeddings need no gradient; a block's output is changed by the additive injection."""
    module = build(copy.deepcopy(pairs[kind]), LoraSettings(rank=2))
    randomise_adapters(module)
    both(module, acts_of(6))


def test_gradients_of_an_oracle_are_those_of_the_whole_batch():
    module = DiffNLAReinforcement(
        oracle=make_oracle(), rollouts=RolloutConfig(group=3, max_new_tokens=6),
        policy=PolicyConfig(kl_weight=0.1, backend=Closed()),
    )  # fmt: skip
    module.mean = None
    both(module, side_by_side(*vectors(5)))


def test_a_batch_without_an_explanation_has_a_gradient_of_zero(pair):
    module = build(pair, **SMALL)
    found = module.explore(acts_of(3))
    found.generation.extracted[:] = False
    loss, logs = module.losses(found, lambda share, last: share.backward())
    assert torch.isfinite(loss)
    assert logs["reconstruction_loss"] == 0
    assert all(not p.grad.any() for p in module.reconstructor.parameters() if p.grad is not None)


def fitted(pair, **policy):
    """Weights after some steps of the Trainer's."""
    module = build(pair, **policy)
    module.rates = RateConfig(1e-3, 1e-3)
    loader = DataLoader([{"acts": act} for act in acts_of(6)], batch_size=3)
    trainer = L.Trainer(**QUIET, max_steps=3, max_epochs=-1, limit_val_batches=0)
    trainer.fit(module, loader, loader)
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("policy", [{"updates": 2, "clip": 0.2}, {"accumulate": 2}])
def test_steps_are_those_of_the_whole_batch(policy, pair):
    """Adam makes a step out of rounding where a gradient is nearly zero. So the weights' whole way is compared."""
    whole = fitted(copy.deepcopy(pair), **policy)
    small = fitted(copy.deepcopy(pair), **policy, **SMALL)
    start = build(pair).state_dict()
    moved = torch.cat([(whole[name] - start[name]).flatten() for name in whole])
    apart = torch.cat([(whole[name] - small[name]).flatten() for name in whole])
    assert moved.abs().mean() > 1e-4
    assert apart.norm() < 0.01 * moved.norm()


def taken(module, acts):
    """Peak bytes, and the largest tensor, of everything but sampling."""
    known = [*module.parameters(), *module.buffers(), acts]
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        known += [] if parameter.grad is None else [parameter.grad]
    found = module.explore(acts)
    known += [found.acts, found.generation.ids, found.generation.mask, found.generation.logprobs]
    with PeakMemory(known) as memory:
        module._reference(found.acts, found.generation.ids, found.generation.mask)
        module.losses(found, lambda share, last: share.backward())
    return memory


def test_memory_follows_the_micro_batch_and_not_the_batch(pair):
    small = {rows: taken(build(copy.deepcopy(pair), micro_batch=8), acts_of(rows)) for rows in (6, 24)}
    whole = {rows: taken(build(copy.deepcopy(pair)), acts_of(rows)) for rows in (6, 24)}
    assert small[24].largest <= 1.05 * small[6].largest
    assert small[24].peak <= 1.1 * small[6].peak
    assert whole[24].largest >= 3 * whole[6].largest
    assert whole[24].peak >= 5 * small[24].peak


def test_memory_of_activations_falls_with_checkpointing(pairs):
    pair = pairs["neox", "additive"]
    kept, again = (
        taken(build(copy.deepcopy(pair), kl_weight=0.0, gradient_checkpointing=on), acts_of(12)).peak
        for on in (False, True)
    )
    assert again < 0.75 * kept


def test_blocks_are_as_they_were_on_every_path(pair):
    model = pair.verbalizer.model
    blocks = list(decoder_layers(model))
    own = blocks[0].forward
    blocks[0].forward = own  # what accelerate does to a block that it moves

    def interrupted():
        with checkpointed([model, pair.reconstructor.backbone]):
            assert blocks[0].forward is not own
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert vars(blocks[0])["forward"] is own
    assert all("forward" not in vars(block) for block in [*blocks[1:], *decoder_layers(pair.reconstructor.backbone)])


def test_every_row_is_in_one_micro_batch():
    lengths = torch.tensor([3, 9, 1, 7, 5])
    assert [part.tolist() for part in micro_batches(lengths, 2)] == [[2, 0], [4, 3], [1]]
    assert [part.tolist() for part in micro_batches(lengths, None)] == [[0, 1, 2, 3, 4]]


def test_shares_without_a_last_one_are_an_error():
    shares = LossShares(lambda share, last: None)
    shares.add(torch.ones(()))
    with pytest.raises(RuntimeError, match="hold the last one"):
        shares.end()


@pytest.fixture
def half(pair):
    """A pair whose weights are held in bfloat16, and the adapters' training on it."""
    return build(pair, LoraSettings(rank=2, dtype="bfloat16"), **SMALL)


def test_frozen_weights_stay_bfloat16_and_trained_ones_are_float32(half):
    dtypes = {True: set(), False: set()}
    for name, parameter in half.named_parameters():
        if "injection" not in name:
            dtypes[parameter.requires_grad].add(parameter.dtype)
    assert dtypes == {True: {torch.float32}, False: {torch.bfloat16}}
    assert {buffer.dtype for name, buffer in half.named_buffers() if "inv_freq" in name} == {torch.float32}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_adapters_on_a_bfloat16_base_are_trained(half, precision):
    trained = half.trained_names()
    before = {name: value.clone() for name, value in half.named_parameters()}
    loader = DataLoader([{"acts": act} for act in acts_of(4)], batch_size=2)
    L.Trainer(**QUIET, max_steps=2, max_epochs=-1, limit_val_batches=0, precision=precision).fit(half, loader, loader)
    changed = {name for name, value in half.named_parameters() if not torch.equal(value, before[name])}
    assert changed <= trained
    assert {name for name in trained if "lora_B" in name} <= changed
    assert all(torch.isfinite(value).all() for value in half.parameters())


def test_the_reference_of_an_untrained_adapter_is_the_policy(half):
    """In the same passes, so that not even bfloat16's rounding differs."""
    found = half.explore(acts_of(6))
    _, logs = half.losses(found)
    assert logs["kl"] == 0
    randomise_adapters(half)
    _, logs = half.losses(found)
    assert logs["kl"] > 1e-4
    again = half.explore(acts_of(6))
    torch.testing.assert_close(again.reference, found.reference, atol=0, rtol=0)


def size_of(module):
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def test_adapters_need_no_second_copy_of_the_weights(pairs):
    """All that is allocated for a training, counted: a frozen copy, or adapters in float32."""
    for lora in (None, LoraSettings(rank=1)):
        pair = copy.deepcopy(pairs["llama", "affine"])
        verbalizer = size_of(pair.verbalizer)
        with PeakMemory([*pair.parameters(), *pair.buffers()]) as memory:
            module = build(pair, lora)
        if lora is None:
            assert memory.peak >= verbalizer
        else:
            adapters = sum(p.numel() * 4 for name, p in module.named_parameters() if "lora_" in name)
            assert adapters < verbalizer / 2
            assert memory.peak <= 2.5 * adapters


def test_a_pair_is_loaded_in_the_precision_of_its_frozen_weights(pair, tmp_path):
    pair.save_pretrained(tmp_path)
    sizes = {}
    for dtype in (None, "bfloat16"):
        module = NLATraining(str(tmp_path), lora=LoraSettings(rank=1, dtype=dtype))
        frozen = [p for name, p in module.named_parameters() if not p.requires_grad and "injection" not in name]
        assert {p.dtype for p in frozen} == {torch.float32 if dtype is None else torch.bfloat16}
        sizes[dtype] = sum(p.numel() * p.element_size() for p in frozen)
    assert sizes["bfloat16"] == sizes[None] / 2


def test_a_micro_batch_has_a_row():
    with pytest.raises(InputError, match="micro_batch is 0; at least 1 is needed"):
        PolicyConfig(micro_batch=0)


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match=r"unknown precision of the frozen weights 'int8'.*bfloat16"):
        LoraSettings(dtype="int8")
