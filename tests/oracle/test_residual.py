import torch
from torch.nn.functional import gelu, layer_norm

from tl_nla.oracle.residual import ResidualBlock


def test_block():
    block, hidden = ResidualBlock(4, 6), torch.randn(3, 4)
    torch.testing.assert_close(block(hidden), hidden + block.outer.bias)
    torch.nn.init.normal_(block.outer.weight)
    torch.nn.init.normal_(block.norm.weight)
    inner = layer_norm(hidden, (4,), block.norm.weight, block.norm.bias) @ block.inner.weight.T + block.inner.bias
    assert inner.shape == (3, 6)
    torch.testing.assert_close(block(hidden), hidden + gelu(inner) @ block.outer.weight.T + block.outer.bias)
