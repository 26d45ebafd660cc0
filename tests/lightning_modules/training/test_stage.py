"""A stage run by Lightning's Trainer: the numbers of a plain loop, its learning curve, and where it goes on."""

import copy
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_modules.training.muon import MuonWithAdamW
from lightning_modules.training.oracle_stages import reconstructor_spec
from lightning_modules.training.schedules import flat_then_down
from lightning_modules.training.stage import StageConfig, StageSpec, run_stage
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError

WORDS = ("red", "blue, green", "a", "It promotes red and blue", "nothing", "b c d e f")
TEXTS = [f"{WORDS[row % 6]} {WORDS[(row * 5 + 1) % 6]}" for row in range(20)]


@pytest.fixture(scope="module")
def untrained():
    return make_oracle(blocks=1).reconstructor


def weights(module):
    return torch.cat([value.flatten() for value in module.state_dict().values()])


def trained(untrained, score=None, **settings):
    reconstructor = copy.deepcopy(untrained)
    told = (lambda: weights(reconstructor).sum().item()) if score else None
    config = StageConfig(**{"steps": 8, "batch_size": 7, "seed": 1, **settings})
    return reconstructor, run_stage(
        reconstructor, reconstructor_spec(reconstructor, TEXTS, vectors(20)[1], config, told)
    )


def plain_loop(module, optimizer, loss, rows, config):
    """The losses of a loop in plain torch."""
    rates, losses = [group["lr"] for group in optimizer.param_groups], []
    passes, generator = -(-config.steps * config.batch_size // rows), torch.Generator().manual_seed(config.seed)
    order = torch.cat([torch.randperm(rows, generator=generator) for _ in range(passes)])
    for step in range(config.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * flat_then_down(step, config.steps, config.down, config.rise)
        value = loss(order[step * config.batch_size : (step + 1) * config.batch_size])
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        optimizer.step()
        losses.append(value.item())
    return losses


@pytest.mark.parametrize("how", [{}, {"optimizer": "adamw", "down": 0.9, "rise": 3, "clip": 0.2}])
def test_a_stage_is_the_plain_loop(untrained, how):
    write, reference, config = vectors(20)[1], copy.deepcopy(untrained), StageConfig(8, 7, 0.01, 1, **how)
    optimizer = (
        torch.optim.AdamW(reference.parameters(), 0.01) if how else MuonWithAdamW(reference.named_parameters(), 0.01)
    )

    def loss(rows):
        return reference.loss([TEXTS[row] for row in rows.tolist()], write[rows])

    losses = plain_loop(reference, optimizer, loss, 20, config)
    found, curve = trained(untrained, curve=8, **how)
    assert [score for (score,) in curve.scores] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(weights(found), weights(reference), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(weights(reference), weights(untrained))


@given(steps=st.integers(1, 300), curve=st.integers(1, 8))
def test_learning_curves_end_with_the_training(steps, curve):
    marks = StageConfig(steps=steps, curve=curve).marks()
    assert marks[-1] == steps
    assert marks == sorted(set(marks))
    assert marks[0] >= 1
    assert len(marks) <= curve


def test_learning_curves_leave_the_training_alone(untrained):
    whole, curve = trained(untrained, True, curve=4)
    assert curve.steps == [2, 4, 6, 8]
    assert curve.scores[-1] == weights(whole).sum().item()
    plain, losses = trained(untrained, curve=2)
    assert torch.equal(weights(whole), weights(plain))
    assert losses.steps == [4, 8]


def test_random_numbers_of_others_are_left_alone(untrained):
    before = torch.random.get_rng_state()
    trained(untrained)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_optimizers_train_otherwise(untrained):
    plain, muon = trained(untrained, optimizer="adamw")[0], trained(untrained)[0]
    assert not torch.allclose(weights(plain), weights(muon))
    with pytest.raises(InputError, match="optimizer"):
        StageConfig(optimizer="sgd")


@pytest.mark.parametrize(
    "settings",
    [{"steps": 0}, {"batch_size": 0}, {"curve": 0}, {"rise": 0}, {"down": 0.0}, {"down": 1.5}, {"clip": 0.0}],
)
def test_settings_that_cannot_train_are_refused(settings):
    ((name, value),) = settings.items()
    with pytest.raises(InputError, match=f"{name} is {value}; "):
        StageConfig(**settings)


class Noisy(nn.Module):
    """Dropout, and random numbers drawn by the loss."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.4), nn.Linear(8, 1))
        self.rows = torch.randn(11, 3)

    def spec(self, stop=None, steps=40):
        done = []

        def loss(rows):
            done.append(rows)
            if len(done) == stop:
                raise KeyboardInterrupt
            return (self.net(self.rows[rows]) - torch.randn(len(rows), 1)).square().mean()

        return StageSpec(loss, 11, StageConfig(steps, 4, 0.01, 3, curve=5, optimizer="adamw"))


def test_an_interrupted_stage_goes_on_and_ends_the_same(tmp_path):
    whole, broken, again = Noisy(), Noisy(), Noisy()
    curve = run_stage(whole, whole.spec())
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_stage(broken, broken.spec(stop=31), tmp_path / "noisy.ckpt")
    assert signal.getsignal(signal.SIGINT) is handler
    told = []
    found = run_stage(again, again.spec(), tmp_path / "noisy.ckpt", tell=lambda *steps: told.append(steps))
    assert told[0] == (30, 40)
    assert told[-1] == (40, 40)
    assert torch.equal(weights(again), weights(whole))
    assert found == curve


def test_checkpoints_of_other_stages_are_refused(tmp_path):
    path = tmp_path / "noisy.ckpt"
    module = Noisy()
    run_stage(module, module.spec(), path, "seed 0")
    with pytest.raises(InputError, match=r"written with other settings \(seed 0, .*now seed 1, "):
        run_stage(module, module.spec(), path, "seed 1")
    with pytest.raises(InputError, match="written with other settings"):
        run_stage(module, module.spec(steps=50), path, "seed 0")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="damaged"):
        run_stage(module, module.spec(), path, "seed 0")
