"""Ways to another layer on states whose relation is known."""

import torch

from docs.studies.smollm2_layers.ways import ways
from tl_nla.metrics import normalise


def test_maps_find_a_linear_relation_and_moving_finds_a_shift():
    generator = torch.Generator().manual_seed(0)
    here = torch.randn(400, 8, generator=generator)
    turned = here @ torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    found = ways(turned, here)
    goal = normalise(here)
    errors = {name: float((normalise(way.front(turned)) - goal).square().mean()) for name, way in found.items()}
    assert errors["maps"] < 0.05 < min(errors["as_is"], errors["moved"])
    shifted = normalise(here) + torch.full((8,), 3.0)
    moved = ways(shifted, here)["moved"]
    torch.testing.assert_close(moved.front(shifted).mean(0), normalise(here).mean(0), atol=1e-4, rtol=1e-4)
    assert float(moved.back(here).mean()) > 0.5
