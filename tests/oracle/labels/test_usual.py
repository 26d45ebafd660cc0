import pytest
import torch

from tl_nla.errors import InputError
from tl_nla.oracle.labels import UsualWrites

SITE, OTHER = "blocks.0.attn.head.1", "blocks.1.mlp"


def test_what_stands_beside_the_mean_has_no_mean_and_no_length_of_its_own(tmp_path):
    writes = torch.randn(40, 6) + torch.tensor([5.0, 0, 0, 0, 0, 0])
    usual = UsualWrites.measure({SITE: writes, OTHER: -writes})
    beside = usual.beside(SITE, writes)
    torch.testing.assert_close(beside.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close((beside + usual.means[SITE]).norm(dim=1), torch.full((40,), 6**0.5))
    torch.testing.assert_close(usual.beside(SITE, 7 * writes), beside)
    torch.testing.assert_close(usual.beside(OTHER, -writes), -beside)
    usual.save(tmp_path / "usual.safetensors")
    again = UsualWrites.load(tmp_path / "usual.safetensors")
    assert torch.equal(again.beside(SITE, writes), beside)
    torch.testing.assert_close(usual.beside(SITE, writes.bfloat16()), beside, atol=0.05, rtol=0.05)


def test_what_was_not_measured_is_refused():
    with pytest.raises(InputError, match=r"usual writes 'blocks\.7\.mlp'"):
        UsualWrites.measure({OTHER: torch.ones(1, 4)}).beside("blocks.7.mlp", torch.ones(1, 4))
    for nothing in ({}, {SITE: torch.zeros(0, 4)}):
        with pytest.raises(InputError, match="at least one"):
            UsualWrites.measure(nothing)
