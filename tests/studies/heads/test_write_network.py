"""A network that reads own runs, words, or both."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from docs.studies.heads.write_network import Evidence, WriteNetwork
from tl_nla.errors import InputError
from tl_nla.metrics import normalise


def make_evidence(count=6, width=5, context=True, words=True, seed=0):
    draw = torch.Generator().manual_seed(seed)
    before, write, told = torch.randn(3, count, width, generator=draw)
    site, length = torch.randint(3, (2, count), generator=draw)
    known = torch.ones(count, dtype=torch.bool)
    return Evidence(before, write, told, site, length, known & context, known & words)


def trained_looking(width=5):
    torch.manual_seed(0)
    network = WriteNetwork(width, 3, 8)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return network


def test_it_starts_as_the_sum_of_what_it_knows():
    known, network = make_evidence(), WriteNetwork(5, 3, 8)
    torch.testing.assert_close(network(known.limited(True, False)), normalise(known.write))
    torch.testing.assert_close(network(known.limited(False, True)), normalise(known.told))
    both = normalise(normalise(known.write) + normalise(known.told))
    torch.testing.assert_close(network(known), both)
    loss = network.loss(known.limited(True, False), 3 * known.write)
    assert loss.item() == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 1000), st.booleans())
def test_what_is_hidden_does_not_matter(seed, context):
    network, known, other = trained_looking(), make_evidence(seed=0), make_evidence(seed=seed + 1)
    hidden = ("told",) if context else ("before", "write")
    changed = Evidence(**{**vars(known), **{name: getattr(other, name) for name in hidden}})
    same = network(known.limited(context, not context))
    torch.testing.assert_close(network(changed.limited(context, not context)), same)
    assert not torch.allclose(network(changed), network(known))


def test_every_component_and_length_is_read_in_its_own_way():
    network, known = trained_looking(), make_evidence()
    for name, step in (("site", 1), ("length", 9)):
        moved = Evidence(**{**vars(known), name: (getattr(known, name) + step) % (3 if name == "site" else 99)})
        assert not torch.allclose(network(moved), network(known))


def test_rows_are_selected_and_joined():
    known = make_evidence()
    again = Evidence.join(known.select(slice(0, 2)), known.select(torch.tensor([2, 3, 4, 5])))
    assert len(again) == len(known)
    assert all(torch.equal(value, getattr(known, name)) for name, value in vars(again).items())


def test_sizes_are_checked():
    with pytest.raises(InputError, match="sites is 0"):
        WriteNetwork(4, 0, 8)
