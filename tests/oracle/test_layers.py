import pytest
import torch

from tests import zoo
from tests.oracle.tiny import make_oracle
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.model.sites import Site
from tl_nla.oracle.layers import add_heads, head_sites, sum_of_heads


class Exact:
    """An oracle whose words are row numbers and whose reconstruction is the write itself."""

    def explain(self, write, before):
        self.write = write
        return [str(row) for row in range(len(write))]

    def reconstruct(self, texts):
        return self.write[[int(text) for text in texts]]


def test_exact_words_add_up_to_the_attention_write(llama):
    reading = read(llama, zoo.tokens(2, 6), [*head_sites(llama, 1), "blocks.1.attn"])
    told = sum_of_heads(Exact(), reading, 1)
    bias = reading["blocks.1.attn"] - sum(reading[site] for site in head_sites(llama, 1))
    torch.testing.assert_close(told.write + bias, reading["blocks.1.attn"], rtol=1e-4, atol=1e-5)
    norms = torch.stack([reading[site].norm(dim=-1) for site in head_sites(llama, 1)])
    for row, heads in enumerate(told.heads):
        assert heads == norms[:, row].argsort(descending=True).tolist()
        assert told.text(row) == ". ".join(told.texts[row])


def test_only_the_strongest_heads_are_told():
    writes = torch.tensor([[[1.0, 0], [0, 3]], [[2.0, 0], [0, 1]], [[0, 3.0], [0, 2]]])
    heads = [Site("head", 0, head) for head in range(3)]
    told = add_heads(Exact(), writes, torch.ones_like(writes), heads, strongest=2)
    assert told.heads == [[2, 1], [0, 2]]
    torch.testing.assert_close(told.write, torch.tensor([[2.0, 3], [0, 5]]))


def test_with_a_language_model(llama):
    oracle = make_oracle()
    reading = read(llama, zoo.tokens(1, 5), head_sites(llama, 0), [2, 4])
    told = sum_of_heads(oracle, reading, 0, 2, max_new_tokens=3)
    assert told.write.shape == (2, zoo.D_MODEL)
    assert [len(texts) for texts in told.texts] == [2, 2]


def test_refusals(llama):
    reading = read(llama, zoo.tokens(1, 5), ["blocks.0.attn"])
    with pytest.raises(InputError, match="no head of layer 0"):
        sum_of_heads(Exact(), reading, 0)
    with pytest.raises(InputError, match="strongest is 0"):
        add_heads(Exact(), torch.ones(1, 2, 3), torch.ones(1, 2, 3), [Site("head", 0, 0)], 0)
    with pytest.raises(InputError, match="of one layer"):
        add_heads(Exact(), torch.ones(2, 2, 3), torch.ones(2, 2, 3), [Site("head", 0, 0), Site("head", 1, 0)])
