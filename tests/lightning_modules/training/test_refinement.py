"""Training of the network behind a reconstructor's head."""

import copy

import pytest
import torch

from lightning_modules.training.refinement import RefineConfig, refine, refinement_spec
from lightning_modules.training.stages import Stages
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError

WORDS = ("red", "blue", "green", "a", "tall", "small")
TEXTS = [f"It promotes {one} {two}" for one in WORDS for two in WORDS]
FEW = RefineConfig(rows=20, passes=60, least_steps=1, batch_size=12, hidden=16, learning_rate=3e-3)
NOWHERE = Stages(None, "")


@pytest.fixture
def reconstructor():
    return make_oracle(blocks=1).reconstructor


def told():
    """Writes that are products of what two words say: no linear head has them."""
    first, second = vectors(6, seed=1)[1], vectors(6, seed=2)[1]
    return torch.stack([first[row // 6] * second[row % 6] for row in range(36)])


def error(reconstructor, refined=True):
    ids, mask = reconstructor.encode(TEXTS)
    with torch.no_grad():
        return float(reconstructor.read_loss(reconstructor.read(reconstructor.ends(ids, mask), refined), told()))


def test_only_the_network_is_trained_and_it_learns(reconstructor):
    before = {name: value.clone() for name, value in reconstructor.state_dict().items()}
    refine(reconstructor, lambda: TEXTS, told(), FEW, 0, NOWHERE, "cat")
    after = reconstructor.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert error(reconstructor) < 0.5 * error(reconstructor, refined=False)
    assert not reconstructor.training


def test_the_same_seed_gives_the_same_network_and_leaves_other_draws_alone(reconstructor):
    other, plain = copy.deepcopy(reconstructor), torch.random.get_rng_state()
    refine(reconstructor, lambda: TEXTS, told(), FEW, 3, NOWHERE, "cat")
    assert torch.equal(torch.random.get_rng_state(), plain)
    torch.manual_seed(77)
    refine(other, lambda: TEXTS, told(), FEW, 3, NOWHERE, "cat")
    one, two = (part.refinement.state_dict() for part in (reconstructor, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_kept_ones_need_no_texts(reconstructor, tmp_path):
    kept, again = Stages(tmp_path, "seed 0"), copy.deepcopy(reconstructor)
    refine(reconstructor, lambda: TEXTS, told(), FEW, 0, kept, "cat")

    def none():
        raise AssertionError("texts were asked for")

    refine(again, none, told(), FEW, 0, kept, "cat")
    assert again.reconstruct(TEXTS[:2]).equal(reconstructor.reconstruct(TEXTS[:2]))
    with pytest.raises(InputError, match="trained with other settings"):
        refine(again, none, told(), RefineConfig(hidden=16, passes=1), 0, kept, "cat")


def test_no_passes_no_refinement(reconstructor):
    refine(reconstructor, lambda: TEXTS, told(), RefineConfig(passes=0), 0, NOWHERE, "cat")
    assert reconstructor.refinement is None
    with pytest.raises(InputError, match="call add_refinement"):
        refinement_spec(reconstructor, TEXTS, told(), FEW, 0)


def test_rows_and_steps():
    assert FEW.drawn(50, 1).tolist() == FEW.drawn(50, 1).tolist() != FEW.drawn(50, 2).tolist()
    assert len(set(FEW.drawn(50, 1).tolist())) == 20
    assert sorted(FEW.drawn(5, 1).tolist()) == list(range(5))
    assert FEW.steps(20) == 100
    assert RefineConfig().steps(20) == RefineConfig().least_steps
    assert RefineConfig().steps(100_000) == 1172


@pytest.mark.parametrize(("name", "value"), [("rows", 0), ("passes", -1), ("batch_size", 0), ("hidden", 0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}"):
        RefineConfig(**{name: value})
