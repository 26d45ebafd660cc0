"""Words chosen in view of their reader: right by brute force, better than a pursuit that no text can tell."""

import pytest
import torch

from tl_nla.oracle.labels import pursue
from tl_nla.oracle.labels.directions import WordDirections
from tl_nla.oracle.words.choosing import choose_words, fit_gain, read_words, signs

WIDTH, WORDS = 12, 300


@pytest.fixture(scope="module")
def drawn():
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(WORDS, WIDTH, generator=generator)
    vectors = torch.randn(80, WIDTH, generator=generator)
    return tuple(rows / rows.norm(dim=1, keepdim=True) for rows in (vectors, direction))


def test_each_word_is_the_one_that_brings_the_reader_nearest(drawn):
    vectors, direction = drawn
    gain = torch.tensor([0.6, 0.5, 0.4, 0.3])
    word = choose_words(vectors, direction, gain, 4)
    for row in range(5):
        said = torch.zeros(WIDTH)
        for place, sign in enumerate(signs(4).tolist()):
            errors = (vectors[row] - said - sign * gain[place] * direction).square().sum(1)
            errors[word[row, :place]] = torch.inf
            if word[row, place] < 0:
                assert errors.min() >= (vectors[row] - said).square().sum() - 1e-6
                break
            assert word[row, place] == errors.argmin()
            said = said + sign * gain[place] * direction[word[row, place]]
        torch.testing.assert_close(read_words(word[row : row + 1], direction, gain)[0], said)


def test_words_stop_where_another_one_would_make_it_worse():
    direction = torch.eye(3)
    word = choose_words(torch.tensor([[0.5, 0.0, 0.0]]), direction, torch.tensor([0.5, 0.5]), 2)
    assert word.tolist() == [[0, -1]]


def test_the_weights_are_the_least_squares_ones(drawn):
    vectors, direction = drawn
    word = choose_words(vectors, direction, torch.tensor([0.6, 0.5, 0.4]), 3)
    scale = torch.linspace(0.5, 2.0, len(vectors))
    gain = fit_gain(word, direction, vectors * scale[:, None], scale)

    def error(weights):
        told = read_words(word, direction, weights) * scale[:, None]
        return float((vectors * scale[:, None] - told).square().sum())

    # the decay moves the optimum by a thousandth
    for place in range(3):
        for step in (-0.05, 0.05):
            assert error(gain) < error(gain + step * torch.eye(3)[place])


def test_the_reader_comes_nearer_than_with_the_words_of_a_pursuit(drawn):
    """The pursuit's words at the best weights a reader can give to places: no text tells the pursuit's own."""
    vectors, direction = drawn
    scale, gain = torch.ones(len(vectors)), 0.5 / torch.arange(1, 9).float().sqrt()
    for _ in range(3):
        word = choose_words(vectors, direction, gain, 8)
        gain = fit_gain(word, direction, vectors, scale)
    own = (vectors - read_words(word, direction, gain)).square().sum()
    words = WordDirections(torch.arange(WORDS), tuple(map(str, range(WORDS))), direction, torch.eye(WIDTH),
                           torch.ones(WORDS))  # fmt: skip
    found = pursue(vectors, words, 8)
    signed = direction[found.word] * found.weight.sign()[..., None]
    weights = torch.linalg.lstsq(signed.transpose(1, 2).reshape(-1, 8), vectors.reshape(-1, 1)).solution[:, 0]
    other = (vectors - torch.einsum("nkw,k->nw", signed, weights)).square().sum()
    assert own < 0.7 * other


def test_a_vocabulary_in_several_pieces_gives_the_same_words(drawn, monkeypatch):
    vectors, direction = drawn
    gain = torch.tensor([0.6, 0.5, 0.4])
    whole = choose_words(vectors, direction, gain, 3)
    monkeypatch.setattr("tl_nla.oracle.words.choosing.WORDS", 64)
    assert torch.equal(choose_words(vectors, direction, gain, 3), whole)
