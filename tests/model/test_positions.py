"""Positions against a slow reading of the same words."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import zoo
from tl_nla.adapters import ReadingAdapter
from tl_nla.errors import InputError
from tl_nla.model.positions import real_tokens, row_positions, select_positions, warn_of_padding


@st.composite
def padded(draw):
    """Token ids with a padding mask, each row padded on one side or both."""
    batch, length = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    mask = torch.zeros(batch, length, dtype=torch.long)
    for row in range(batch):
        first = draw(st.integers(0, length - 1))
        mask[row, first : draw(st.integers(first + 1, length))] = 1
    return torch.arange(batch * length).reshape(batch, length), mask


def columns(mask, row):
    return [column for column in range(mask.shape[1]) if mask[row, column]]


@given(padded(), st.lists(st.integers(-9, 8), min_size=1, max_size=4))
def test_integers_count_each_rows_tokens(case, numbers):
    tokens, mask = case
    expected = torch.zeros_like(mask, dtype=torch.bool)
    try:
        for row in range(len(tokens)):
            for number in numbers:
                expected[row, columns(mask, row)[number]] = True
    except IndexError:
        with pytest.raises(InputError, match="is outside row"):
            select_positions(tokens, numbers, mask)
        return
    assert torch.equal(select_positions(tokens, numbers, mask), expected)
    assert torch.equal(select_positions(tokens, [numbers[0]], mask), select_positions(tokens, numbers[0], mask))


@given(padded(), st.builds(slice, *[st.none() | st.integers(-9, 9)] * 2, st.none() | st.sampled_from([-2, -1, 1, 3])))
def test_slices_cut_each_rows_tokens(case, cut):
    tokens, mask = case
    expected = torch.zeros_like(mask, dtype=torch.bool)
    for row in range(len(tokens)):
        expected[row, columns(mask, row)[cut]] = True
    if expected.any():
        assert torch.equal(select_positions(tokens, cut, mask), expected)
    else:
        with pytest.raises(InputError, match="choose nothing"):
            select_positions(tokens, cut, mask)


@given(padded(), st.data())
def test_masks_all_and_row_numbers(case, data):
    tokens, mask = case
    assert torch.equal(select_positions(tokens, "all", mask), mask.bool())
    number = row_positions(real_tokens(tokens, mask))
    for row in range(len(tokens)):
        assert number[row][mask[row].bool()].tolist() == list(range(int(mask[row].sum())))
    wanted = torch.tensor(data.draw(st.lists(st.booleans(), min_size=mask.numel(), max_size=mask.numel())))
    wanted = wanted.reshape(mask.shape)
    if (wanted & ~mask.bool()).any():
        with pytest.raises(InputError, match="chooses padding"):
            select_positions(tokens, wanted, mask)
    elif wanted.any():
        assert torch.equal(select_positions(tokens, wanted, mask), wanted)


def test_token_strings_find_their_tokens(tokenizer):
    tokens = torch.tensor([[5, 6, 5, 0], [7, 5, 8, 9]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert select_positions(tokens, "w5", mask, tokenizer).nonzero().tolist() == [[0, 0], [0, 2], [1, 1]]
    assert select_positions(tokens, ["w6", " w9"], mask, tokenizer).nonzero().tolist() == [[0, 1], [1, 3]]
    for wanted in ("w40", "<pad>", ["w5", "w41"]):
        with pytest.raises(InputError, match="does not stand in the batch"):
            select_positions(tokens, wanted, mask, tokenizer)
    with pytest.raises(InputError, match="need a model with a tokenizer"):
        select_positions(tokens, "w5")


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (7, "position 7 is outside row 0, which has 7 tokens"),
        ([], "choose nothing"),
        (torch.zeros(2, 7).bool(), "choose nothing"),
        (torch.ones(1, 7).bool(), r"shape \(1, 7\)"),
        (2.5, "no known kind"),
        ([None], "no known kind"),
        ([1.5], "no known kind"),
        (torch.ones(7).bool(), r"shape \(7,\)"),
        ([False, True], "no known kind"),
        (True, "no known kind"),
    ],
)
def test_other_positions_are_refused(positions, message):
    with pytest.raises(InputError, match=message):
        select_positions(zoo.tokens(), positions)


@pytest.mark.parametrize("number", [np.int64(-1), torch.tensor(6), np.array([6]), torch.tensor([-1])])
def test_numbers_of_numpy_and_torch_are_numbers(number):
    tokens = zoo.tokens()
    assert torch.equal(select_positions(tokens, number), select_positions(tokens, -1))
    assert ReadingAdapter("blocks.0", number).positions in ([-1], [6])


@pytest.mark.parametrize(
    ("ids", "positions", "bos", "rows"),
    [
        ([[1, 5, 6, 7], [1, 5, 0, 0]], -1, 1, [1]),
        ([[1, 5, 6, 7], [1, 5, 0, 0]], [0, 1], 1, []),  # the padding is not chosen
        ([[1, 5, 6, 7], [0, 0, 1, 5]], 0, 1, [1]),
        ([[0, 5, 6, 7], [0, 0, 0, 5]], 1, 0, [1]),  # as GPT-2: one token is begin token and padding
        ([[0, 5, 6, 7], [0, 0, 0, 5]], 2, 0, []),
        ([[0, 5, 6, 7], [0, 8, 6, 5]], "all", 0, []),
        ([[1, 5, 6, 0], [1, 5, 7, 0]], "all", 1, []),  # all texts end in that token
        ([[1, 5, 0, 0]], "all", 1, []),
    ],
)
def test_what_looks_like_padding_is_warned_of(ids, positions, bos, rows, recwarn):
    tokens = torch.tensor(ids)
    tokenizer = SimpleNamespace(pad_token_id=0, bos_token_id=bos)
    warn_of_padding(tokens, select_positions(tokens, positions), tokenizer)
    assert [str(one.message)[:60] for one in recwarn] == [
        f"rows {rows} of the batch seem to be padded, and their padding is"[:60]
    ] * bool(rows)


def test_empty_batches_and_bad_padding_are_refused():
    tokens = zoo.tokens()
    for empty in (tokens[:0], tokens[:, :0]):
        with pytest.raises(InputError, match="at least one row and one position"):
            select_positions(empty, "all")
    with pytest.raises(InputError, match="attention_mask has shape"):
        select_positions(tokens, "all", torch.ones(2, 6))
    with pytest.raises(InputError, match=r"rows \[1\] of the batch hold padding only"):
        select_positions(tokens, "all", torch.tensor([[1] * 7, [0] * 7]))
