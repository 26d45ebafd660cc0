"""The cache with room is the cache of transformers, step by step."""

import torch
from transformers import DynamicCache

from tl_nla.nla import roomy_cache as module
from tl_nla.nla.roomy_cache import roomy_cache


def tokens(rows, count, generator):
    return torch.randn(rows, 2, count, 4, generator=generator), torch.randn(rows, 2, count, 4, generator=generator)


def test_every_step_is_that_of_transformers(monkeypatch):
    monkeypatch.setattr(module, "_ROOM", 3)  # so that it is used up
    ours, theirs, draw = roomy_cache(), DynamicCache(), torch.Generator().manual_seed(0)
    steps = [(1, 4, None), (6, 2, 6), (6, 1, None), (4, 1, [0, 5, 2, 3]), (4, 1, None), (3, 1, [2, 0, 3]), (3, 1, None),
             (6, 1, [2, 0, 1, 1, 0, 2]), (6, 1, None)]  # fmt: skip
    for rows, count, change in steps:
        for cache in (ours, theirs):
            if isinstance(change, int):
                cache.batch_repeat_interleave(change)
            elif change is not None:
                cache.batch_select_indices(torch.tensor(change))
        for layer in (0, 1):
            keys, values = tokens(rows, count, draw)
            for one, other in zip(ours.update(keys, values, layer), theirs.update(keys, values, layer), strict=True):
                assert torch.equal(one, other)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_a_new_token_moves_nothing():
    cache, draw = roomy_cache(), torch.Generator().manual_seed(0)
    cache.update(*tokens(5, 7, draw), 0)
    where = cache.layers[0].keys.data_ptr()
    cache.update(*tokens(5, 1, draw), 0)
    cache.batch_select_indices(torch.tensor([0, 4, 2]))
    keys, _ = cache.update(*tokens(3, 1, draw), 0)
    assert cache.layers[0].keys.data_ptr() == where
    assert keys.shape == (3, 2, 9, 4)
