import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.training.muon import Float32Muon, MuonWithAdamW, orthogonalised
from tl_nla.errors import InputError


@given(rows=st.integers(2, 12), columns=st.integers(2, 12), seed=st.integers(0, 1000))
def test_an_orthogonalised_matrix_keeps_its_singular_vectors(rows, columns, seed):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ orthogonalised(matrix[None])[0] @ right.T
    assert (inside - inside.diag().diag()).abs().max() < 1e-3
    large = values > 0.1 * values.norm()
    assert ((inside.diag()[large] > 0.6) & (inside.diag()[large] < 1.25)).all()


@pytest.mark.parametrize("shape", [(16, 8), (8, 16), (8, 8)])
def test_steps_are_those_of_torch_but_for_the_rounding_of_bfloat16(shape):
    start = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = Float32Muon([ours], lr=0.1, weight_decay=0.1), torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1)
    for step in range(3):
        gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(1 + step))
        for value, optimizer in zip((ours, theirs), optimizers, strict=True):
            value.grad = gradient.clone()
            optimizer.step()
    assert (ours - theirs).norm() < 0.03 * (start - theirs).norm()
    assert not torch.equal(ours, theirs)
    assert optimizers[0].state_dict()["state"].keys() == optimizers[1].state_dict()["state"].keys()


def test_matrices_that_share_a_shape_are_updated_as_if_alone():
    draw = torch.Generator().manual_seed(0)
    starts = [torch.randn(*shape, generator=draw) for shape in ((6, 4), (4, 6), (6, 4), (6, 4))]
    together, alone = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    optimizers = [Float32Muon(together, lr=0.1), *(Float32Muon([value], lr=0.1) for value in alone)]
    for _ in range(2):
        for value, other in zip(together, alone, strict=True):
            value.grad = torch.randn(value.shape, generator=draw)
            other.grad = value.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for value, other, start in zip(together, alone, starts, strict=True):
        torch.testing.assert_close(value, other)
        assert not torch.equal(value, start)


def test_a_matrix_without_gradient_stays():
    still = torch.nn.Parameter(torch.ones(2, 2))
    Float32Muon([still]).step()
    assert torch.equal(still, torch.ones(2, 2))


def test_muon_and_adamw_share_all_parameters():
    model = torch.nn.Sequential()
    model.add_module("embed", torch.nn.Embedding(5, 4))
    model.add_module("inner", torch.nn.Linear(4, 4))
    optimizer = MuonWithAdamW(model.named_parameters(), 0.1)
    owned = [value for group in optimizer.param_groups for value in group["params"]]
    assert {id(value) for value in owned} == {id(value) for value in model.parameters()}
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]
    before = [value.detach().clone() for value in model.parameters()]
    model(torch.tensor([1, 2])).square().sum().backward()
    state = optimizer.state_dict()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    optimizer.load_state_dict(state)
    with pytest.raises(InputError, match="no weight matrix"):
        MuonWithAdamW(torch.nn.LayerNorm(2).named_parameters())
