"""Words chosen in view of their reader: right by brute force, better than a pursuit that no text can tell."""

import pytest
import torch

from tl_nla.oracle.labels import pursue
from tl_nla.oracle.labels.directions import WordDirections
from tl_nla.oracle.words.choosing import choose_words, fit_shapes, read_words, signs
from tl_nla.oracle.words.tables import unit_rows, whitened

WIDTH, WORDS = 12, 300
SPREAD = torch.linspace(2.0, 0.1, WIDTH)


@pytest.fixture(scope="module")
def drawn():
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(WORDS, WIDTH, generator=generator)
    vectors = torch.randn(400, WIDTH, generator=generator) * SPREAD
    shape = torch.rand(4, WIDTH, generator=generator) * SPREAD
    return vectors, whitened(direction), shape


def test_each_word_is_the_one_that_brings_the_reader_nearest(drawn):
    vectors, direction, shape = drawn
    word = choose_words(vectors, direction, shape, 4)
    for row in range(5):
        said = torch.zeros(WIDTH)
        for place, sign in enumerate(signs(4).tolist()):
            errors = (vectors[row] - said - sign * direction * shape[place]).square().sum(1)
            errors[word[row, :place]] = torch.inf
            if word[row, place] < 0:
                assert errors.min() >= (vectors[row] - said).square().sum() - 1e-5
                break
            assert word[row, place] == errors.argmin()
            said = said + sign * direction[word[row, place]] * shape[place]
        torch.testing.assert_close(read_words(word[row : row + 1], direction, shape)[0], said)


def test_words_stop_where_another_one_would_make_it_worse():
    word = choose_words(torch.tensor([[0.5, 0.0, 0.0]]), torch.eye(3), torch.full((2, 3), 0.5), 2)
    assert word.tolist() == [[0, -1]]


def test_a_word_is_not_said_twice():
    word = choose_words(torch.tensor([[9.0, 1.0]]), torch.eye(2), torch.ones(4, 2), 4)
    assert word[0, :3].tolist() == [0, -1, -1]  # the second place could only make it worse


def test_whitened_words_vary_alike_and_turn_little(drawn):
    rows = torch.randn(3000, WIDTH, generator=torch.Generator().manual_seed(1)) * SPREAD
    white = whitened(rows)
    assert white.square().mean(0).max() < 1.3 * white.square().mean(0).min()
    torch.testing.assert_close(white.norm(dim=1), torch.full((3000,), WIDTH**0.5))
    assert bool(((white * rows).sum(1) > 0).all())
    flat = whitened(rows * (torch.arange(WIDTH) > 2))
    assert bool(flat.isfinite().all())
    assert bool((flat[:, :3].abs() < 1e-3).all())


def test_shapes_follow_what_there_is_to_say(drawn):
    vectors, direction, _ = drawn
    shape = fit_shapes(vectors, direction, 8, 2)
    assert bool((shape >= 0).all())
    assert shape[0, :3].mean() > 5 * shape[0, -3:].mean()  # first what varies most
    assert shape[-1].max() < shape[0].max()
    told = [float((vectors - read_words(choose_words(vectors, direction, shape, n), direction, shape)).square().sum())
            for n in (1, 4, 8)]  # fmt: skip
    assert told[2] < 0.5 * told[1] < 0.25 * told[0]


def test_the_reader_comes_nearer_than_with_the_words_of_a_pursuit(drawn):
    """The pursuit's words at the best weights a reader can give to places: no text tells the pursuit's own."""
    vectors, direction, _ = drawn
    shape = fit_shapes(vectors, direction, 8, 2)
    own = (vectors - read_words(choose_words(vectors, direction, shape, 8), direction, shape)).square().sum()
    words = WordDirections(torch.arange(WORDS), tuple(map(str, range(WORDS))), unit_rows(direction), torch.eye(WIDTH),
                           torch.ones(WORDS))  # fmt: skip
    found = pursue(vectors, words, 8)
    signed = words.direction[found.word] * found.weight.sign()[..., None]
    weights = torch.linalg.lstsq(signed.transpose(1, 2).reshape(-1, 8), vectors.reshape(-1, 1)).solution[:, 0]
    other = (vectors - torch.einsum("nkw,k->nw", signed, weights)).square().sum()
    assert own < 0.3 * other


def test_a_vocabulary_in_several_pieces_gives_the_same_words(drawn, monkeypatch):
    vectors, direction, shape = drawn
    whole = choose_words(vectors, direction, shape, 4)
    monkeypatch.setattr("tl_nla.oracle.words.choosing.WORDS", 64)
    assert torch.equal(choose_words(vectors, direction, shape, 4), whole)
