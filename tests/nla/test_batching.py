"""Groups of similar length: every row once, little padding."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.nla.batching import similar_lengths


@given(lengths=st.lists(st.integers(0, 200), min_size=1, max_size=60))
def test_every_row_is_in_one_group_and_padded_little(lengths):
    tensor = torch.tensor(lengths)
    groups = similar_lengths(tensor)
    assert sorted(torch.cat(groups).tolist()) == list(range(len(lengths)))
    for rows in groups:
        assert tensor[rows].max() <= 1.25 * tensor[rows].min() + 4


def test_rows_of_two_lengths_make_two_groups():
    assert [rows.tolist() for rows in similar_lengths(torch.tensor([70, 20, 71, 22]))] == [[1, 3], [0, 2]]
