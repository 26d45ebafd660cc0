"""Loops over stored writes: learning curves, and trainings that go back to where a shorter one branched off."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.training.fit_oracle import FitConfig, fit_reconstructor
from lightning_modules.training.muon import MuonWithAdamW
from lightning_modules.training.schedules import flat_then_down
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
    config = FitConfig(**{"steps": 8, "batch_size": 7, "seed": 1, **settings})
    return reconstructor, fit_reconstructor(reconstructor, TEXTS, vectors(20)[1], config, told)


@given(steps=st.integers(1, 300), curve=st.integers(1, 8), halved=st.booleans())
def test_learning_curves_end_with_the_training(steps, curve, halved):
    marks = FitConfig(steps=steps, curve=curve, halved=halved).marks()
    assert marks[-1] == steps
    assert marks == sorted(set(marks))
    assert marks[0] >= 1
    assert len(marks) <= curve


def test_a_training_is_that_of_the_plain_loop(untrained):
    write, reference, config = vectors(20)[1], copy.deepcopy(untrained), FitConfig(8, 7, 0.01, 1)
    optimizer = MuonWithAdamW(reference.named_parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: flat_then_down(step, 8))
    generator = torch.Generator().manual_seed(1)
    order = torch.cat([torch.randperm(20, generator=generator) for _ in range(3)])[: 8 * 7]
    for rows in order.split(7):
        optimizer.zero_grad()
        reference.loss([TEXTS[row] for row in rows.tolist()], write[rows]).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    assert torch.equal(weights(trained(untrained)[0]), weights(reference))
    assert not torch.equal(weights(reference), weights(untrained))


@pytest.mark.parametrize("halved", [True, False])
def test_learning_curves_leave_the_training_alone(untrained, halved):
    whole, curve = trained(untrained, True, down=0.5, halved=halved, curve=4)
    assert curve.steps == ([1, 2, 4, 8] if halved else [2, 4, 6, 8])
    assert curve.scores[-1] == weights(whole).sum().item()
    plain, none = trained(untrained, down=0.5)
    assert torch.equal(weights(whole), weights(plain))
    assert none.steps == []


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_points_of_a_halved_curve_are_trainings_of_their_own(untrained, optimizer):
    how = {"down": 0.5, "optimizer": optimizer}
    _, curve = trained(untrained, True, halved=True, curve=4, **how)
    _, spaced = trained(untrained, True, **how)
    for steps, score in zip(curve.steps, curve.scores, strict=True):
        alone, _ = trained(untrained, steps=steps, **how)
        assert score == weights(alone).sum().item()
    assert spaced.scores[spaced.steps.index(4)] != curve.scores[curve.steps.index(4)]


def test_optimizers_train_otherwise(untrained):
    plain, muon = trained(untrained, optimizer="adamw")[0], trained(untrained)[0]
    assert not torch.allclose(weights(plain), weights(muon))
    with pytest.raises(InputError, match="optimizer"):
        FitConfig(optimizer="sgd")


@pytest.mark.parametrize("settings", [{"steps": 0}, {"batch_size": 0}, {"curve": 0}, {"down": 0.0}, {"down": 1.5}])
def test_settings_that_cannot_train_are_refused(settings):
    ((name, value),) = settings.items()
    with pytest.raises(InputError, match=f"{name} is {value}; "):
        FitConfig(**settings)
