"""Random diff oracles, fast to build."""

import torch

from docs.studies.tiny.tokenizer import build_tokenizer
from tests import zoo
from tl_nla.oracle import DiffOracle


def make_oracle(family="llama", **settings):
    """A fresh random oracle whose slots and head are no identities."""
    tokenizer = build_tokenizer()
    model = zoo.hf_model(family, vocab_size=len(tokenizer), max_position_embeddings=128)
    oracle = DiffOracle.create(model, tokenizer, **settings).eval()
    with torch.no_grad():
        for parameter in [*oracle.verbalizer.slots.parameters(), oracle.reconstructor.head.weight]:
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    oracle.fit(*vectors(64, oracle.d_model))
    return oracle


def vectors(rows, size=zoo.D_MODEL, seed=0):
    """States and writes of very different norms."""
    generator = torch.Generator().manual_seed(seed)
    before = 5 * torch.randn(rows, size, generator=generator)
    return before, torch.randn(rows, size, generator=generator) * torch.randn(rows, 1, generator=generator).exp()
