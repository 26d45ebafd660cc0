"""Maps between layers: exact where an exact map exists, and against the normal equations otherwise."""

import pytest
import torch

from tests import zoo
from tests.nla.test_generation import make
from tl_nla.errors import InputError
from tl_nla.metrics import cosine, normalise
from tl_nla.nla.adaptation import AdaptedNLA, adapt, fit_map


@pytest.fixture(scope="module")
def states():
    generator = torch.Generator().manual_seed(0)
    here = torch.randn(200, zoo.D_MODEL, generator=generator)
    turn = torch.linalg.qr(torch.randn(zoo.D_MODEL, zoo.D_MODEL, generator=generator))[0]
    return here, here @ turn


def test_a_rotation_is_found_and_undone(states):
    here, there = states
    adapted = adapt(make("llama"), there[:150], here[:150], 2, decay=1e-8)
    assert cosine(adapted.front(there[150:]), here[150:]).min() > 0.9999
    assert cosine(adapted.back(here[150:]), there[150:]).min() > 0.9999


def test_ridge_is_the_minimum_of_its_objective(states):
    here, _ = states
    target = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    found = fit_map(here, target, 0.1)
    left, right = normalise(here.double()), normalise(target.double())
    scale = 0.1 * (left - left.mean(0)).square().sum(0).mean()

    def objective(weight, bias):
        return (left @ weight + bias - right).square().sum() + scale * weight.square().sum()

    weight, bias = (value.double().requires_grad_(True) for value in (found.weight, found.bias))
    gradients = torch.autograd.grad(objective(weight, bias), (weight, bias))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-3


def test_an_adapted_pair_explains_what_the_map_gives(states, tmp_path):
    here, there = states
    nla = make("llama")
    adapted = adapt(nla, there, here, 2)
    assert adapted.verbalize(there[:3], max_new_tokens=8) == nla.verbalize(adapted.front(there[:3]), max_new_tokens=8)
    searched = nla.search(adapted.front(there[:3]), beams=2, max_new_tokens=8)
    assert adapted.search(there[:3], beams=2, max_new_tokens=8).texts == searched.texts
    torch.testing.assert_close(adapted.reconstruct(["a", "bc"]), adapted.back(nla.reconstruct(["a", "bc"])))
    adapted.save(tmp_path / "maps.safetensors")
    again = AdaptedNLA.load(tmp_path / "maps.safetensors", nla, 2)
    assert torch.equal(again.front(there), adapted.front(there))


def test_unequal_rows_are_refused(states):
    with pytest.raises(InputError, match="same tokens"):
        fit_map(states[0], states[1][:5])
