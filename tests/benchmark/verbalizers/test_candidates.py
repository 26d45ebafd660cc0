"""Candidates: nothing about them tells which one is right."""

import pytest
import torch

from tests import zoo
from tl_nla.benchmark.verbalizers.candidates import OPTIONS, grouped_choices, matched_choices, nearest_choices
from tl_nla.benchmark.verbalizers.leaks import leak_tests
from tl_nla.benchmark.verbalizers.readers.overlap import OverlapReader, Rarity
from tl_nla.errors import InputError

DOCUMENT = torch.arange(40) // 2
PIECES = [[4 + row, 4 + (row * 7) % 50, 4 + (row * 3) % 11] for row in range(40)]


def choices(seed=0):
    """Candidates of forty pieces of twenty documents."""
    texts = [zoo.tokenizer().decode(piece) for piece in PIECES]
    return matched_choices(PIECES, texts, DOCUMENT, zoo.tokenizer(), seed)


def test_each_candidate_of_a_group_is_right_once():
    found = choices()
    groups = {}
    for row, options in enumerate(found.options):
        assert options[found.right[row]] == PIECES[row]
        assert len({tuple(one) for one in options}) == OPTIONS
        groups.setdefault(frozenset(map(tuple, options)), []).append(tuple(PIECES[row]))
    assert all(set(rows) == group for group, rows in groups.items())
    assert len(groups) == 4


def test_no_two_candidates_share_a_document():
    place = {tuple(piece): int(DOCUMENT[row]) for row, piece in enumerate(PIECES)}
    for options in choices().options:
        assert len({place[tuple(one)] for one in options}) == OPTIONS


def test_guessing_from_candidates_alone_is_chance():
    reader = OverlapReader(zoo.tokenizer(), Rarity(["w4"]))
    for leak in leak_tests({"task": choices()}, DOCUMENT, reader, zoo.tokenizer(), 0):
        assert not leak.found, leak
        if leak.test != "first place":
            assert leak.accuracy.value == pytest.approx(0.1, abs=0.026)  # ties are shared


def test_a_leak_is_found():
    """Distractors that are all alike give the odd one away."""
    found = choices()
    odd = [[[60, 60, 60] if place != right else piece for place, piece in enumerate(row)]
           for row, right in zip(found.options, found.right.tolist(), strict=True)]  # fmt: skip
    leaky = type(found)(odd, found.right)
    reader = OverlapReader(zoo.tokenizer(), Rarity(["w4"]))
    tests = {leak.test: leak for leak in leak_tests({"task": leaky}, DOCUMENT, reader, zoo.tokenizer(), 0)}
    assert tests["rare words"].found
    assert tests["least central"].found


def test_another_seed_asks_otherwise():
    assert choices(0).options != choices(1).options
    assert choices(3).options == choices(3).options


def test_near_vectors_are_candidates_for_each_other():
    acts = torch.zeros(40, 8)
    acts[:20, 0], acts[20:, 1] = 1, 1
    acts += 0.01 * torch.randn(acts.shape, generator=torch.Generator().manual_seed(0))
    found = nearest_choices(PIECES, acts, torch.arange(40), 0)
    for row, options in enumerate(found.options):
        assert all((PIECES.index(list(one)) < 20) == (row < 20) for one in options)


def test_bad_pieces_are_refused():
    with pytest.raises(InputError, match="equally long"):
        grouped_choices([[4], [5, 6]], torch.eye(2), torch.arange(2), 0)
    with pytest.raises(InputError, match="test more documents"):
        grouped_choices([[4], [5]], torch.eye(2), torch.arange(2), 0)
