"""Steering vectors survive the disk and keep their units."""

import pytest
import torch
from safetensors.torch import save_file

from tl_nla.errors import InputError
from tl_nla.metrics.functional import normalise
from tl_nla.steering import SteeringVector, mean_difference, random_direction, vector_from_words

SITE = "blocks.1.hook_resid_post"


class Reader:
    def reconstruct(self, texts):
        return torch.stack([torch.full((8,), float(len(text))) + torch.arange(8) for text in texts])


def test_round_trip(tmp_path):
    vector = SteeringVector(torch.randn(8), SITE, "tiny", 1.5)
    vector.save(tmp_path / "v.safetensors")
    back = SteeringVector.load(tmp_path / "v.safetensors")
    assert torch.equal(back.vector, vector.vector)
    assert (back.site, back.model, back.strength) == (SITE, "tiny", 1.5)


def test_from_words():
    vector = vector_from_words(Reader(), "one", "three", SITE)
    new, old = normalise(Reader().reconstruct(["three", "one"]))
    torch.testing.assert_close(vector.vector, new - old)
    with pytest.raises(InputError, match="same text"):
        vector_from_words(Reader(), "one", "one", SITE)


def test_mean_difference_of_itself_is_nothing():
    acts = torch.randn(5, 8)
    torch.testing.assert_close(mean_difference(acts, acts * 3, SITE).vector, torch.zeros(8), atol=1e-6, rtol=0)


def test_random_direction_has_the_norm():
    like = SteeringVector(torch.randn(8), SITE)
    draws = [random_direction(like, torch.Generator().manual_seed(seed)).vector for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.testing.assert_close(draws[2].norm(), like.vector.norm())


def test_refuses_what_is_none(tmp_path):
    with pytest.raises(InputError, match="no steering vector"):
        SteeringVector.load(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"no safetensors")
    with pytest.raises(InputError, match="holds no steering vector"):
        SteeringVector.load(tmp_path / "bad")
    with pytest.raises(InputError, match="there is no folder"):
        SteeringVector(torch.ones(4), "blocks.1.hook_resid_post").save(tmp_path / "no" / "v.safetensors")


def test_a_damaged_header_is_one_line(tmp_path):
    about = {"site": "blocks.1.hook_resid_post", "strength": "much"}
    save_file({"vector": torch.ones(4)}, tmp_path / "v.safetensors", metadata=about)
    with pytest.raises(InputError, match="damaged header"):
        SteeringVector.load(tmp_path / "v.safetensors")
    save_file({"vector": torch.ones(4)}, tmp_path / "v.safetensors", metadata={**about, "strength": "1", "made": "{"})
    with pytest.raises(InputError, match="damaged header"):
        SteeringVector.load(tmp_path / "v.safetensors")
