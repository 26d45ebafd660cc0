"""Words chosen jointly: as a slow reference chooses them, and with the properties of a matching pursuit."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.oracle.labels import Lens, Vocabulary, pursue, pursuit
from tl_nla.oracle.labels.directions import WordDirections, frequent_first, head_basis

WIDTH = 8


def directions(words=300, width=WIDTH, seed=0, preference=None):
    rows = torch.randn(words, width, generator=torch.Generator().manual_seed(seed))
    rows = rows / rows.norm(dim=1, keepdim=True)
    glad = torch.ones(words) if preference is None else preference
    return WordDirections(torch.arange(words), tuple(f"w{i}" for i in range(words)), rows, torch.eye(width), glad)


def vectors(rows=5, width=WIDTH, seed=1):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def slow(vector, words, count):
    """One row, one word at a time, least squares over all chosen words, in float64."""
    chosen, rest, weight = [], vector.double(), torch.zeros(0, dtype=torch.float64)
    table = words.direction.double()
    for _ in range(count):
        fit = (table @ rest).abs()
        if fit.max() <= 1e-5 * vector.norm():
            break
        chosen.append(int((fit * words.preference.double()).argmax()))
        own = table[chosen].T
        weight = torch.linalg.lstsq(own, vector.double()[:, None]).solution[:, 0]
        rest = vector.double() - own @ weight
    return chosen, weight, rest


def assert_equals_the_reference(found, given_vectors, words, count):
    for row, vector in enumerate(given_vectors):
        chosen, weight, rest = slow(vector, words, count)
        assert found.word[row, : len(chosen)].tolist() == chosen
        assert (found.word[row, len(chosen) :] == -1).all()
        torch.testing.assert_close(found.weight[row, : len(chosen)].double(), weight, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found.rest[row].double(), rest, atol=1e-4, rtol=1e-3)


@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.0, 1.0, 3.0]))
def test_equals_the_reference(seed, count, dial):
    counts = torch.randint(0, 50, (300,), generator=torch.Generator().manual_seed(seed))
    words = directions(seed=seed, preference=frequent_first(counts, dial))
    given_vectors = vectors(seed=seed + 1)
    assert_equals_the_reference(pursue(given_vectors, words, count), given_vectors, words, count)


@pytest.mark.parametrize(("rows", "block"), [(1, 64), (2, 48), (3, 7), (256, 4096)])
def test_blocks_change_nothing(rows, block, monkeypatch):
    words, given_vectors = directions(500), vectors(9)
    monkeypatch.setattr(pursuit, "ROWS", rows)
    monkeypatch.setattr(pursuit, "WORDS", block)
    assert_equals_the_reference(pursue(given_vectors, words, 4), given_vectors, words, 4)


@given(st.integers(0, 10_000))
def test_each_word_leaves_less_and_the_rest_is_orthogonal_to_all_words(seed):
    words, given_vectors = directions(seed=seed), vectors(seed=seed + 1)
    left = [given_vectors.norm(dim=1)]
    for count in range(1, WIDTH + 1):
        found = pursue(given_vectors, words, count)
        told = torch.where(found.word[..., None] >= 0, words.direction[found.word.clamp_min(0)], 0.0)
        assert (torch.einsum("nkw,nw->nk", told, found.rest).abs() < 1e-4).all()
        torch.testing.assert_close(
            torch.einsum("nkw,nk->nw", told, found.weight) + found.rest, given_vectors, atol=1e-4, rtol=1e-3
        )
        left.append(found.rest.norm(dim=1))
    assert all((later < earlier).all() for earlier, later in itertools.pairwise(left[:-2]))
    assert (left[-1] < 1e-3).all()  # as many words as dimensions leave nothing


def test_a_planted_combination_is_found_exactly_and_nothing_beside_it():
    table = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(3))).Q
    words = WordDirections(torch.arange(64), tuple(map(str, range(64))), table, torch.eye(64), torch.ones(64))
    planted = torch.zeros(64)
    planted[[5, 40, 17]] = torch.tensor([2.0, -3.0, 1.0])
    found = pursue((planted @ table)[None], words, 6)
    assert found.word[0].tolist() == [40, 5, 17, -1, -1, -1]
    torch.testing.assert_close(found.weight[0], torch.tensor([-3.0, 2.0, 1.0, 0.0, 0.0, 0.0]), atol=1e-5, rtol=1e-5)
    assert found.rest.abs().max() < 1e-5
    nothing = pursue(torch.zeros(2, 64), words, 2)
    assert (nothing.word == -1).all()
    assert (nothing.weight == 0).all()


def test_words_chosen_jointly_rebuild_more_than_the_strongest_ones():
    words, given_vectors = directions(2000, 16), vectors(50, 16)
    found = pursue(given_vectors, words, 4)
    strongest = (given_vectors @ words.direction.T).abs().topk(4).indices
    own = words.direction[strongest].transpose(1, 2)
    rest = given_vectors[..., None] - own @ torch.linalg.lstsq(own, given_vectors[..., None], driver="gelsd").solution
    assert found.rest.square().sum() < 0.6 * rest.square().sum()


def test_the_dial_trades_fit_for_frequent_words():
    counts = torch.randint(0, 1000, (500,), generator=torch.Generator().manual_seed(0))
    given_vectors = vectors(40)
    left, often = [], []
    for dial in (0.0, 1.0, 4.0):
        found = pursue(given_vectors, directions(500, preference=frequent_first(counts, dial)), 4)
        left.append(found.rest.norm().item())
        often.append(counts[found.word].float().log1p().mean().item())
    assert left == sorted(left)
    assert often == sorted(often)
    assert often[2] > often[0] + 0.1


def test_preferences_are_between_the_unseen_and_the_most_frequent():
    found = frequent_first(torch.tensor([0, 9, 99]), 2.0)
    torch.testing.assert_close(found, torch.tensor([torch.e**-2, torch.e**-1, 1.0]))
    assert frequent_first(torch.tensor([0, 9]), 0.0).tolist() == [1.0, 1.0]
    assert frequent_first(torch.tensor([0, 0]), 1.0).tolist() == pytest.approx([torch.e**-1] * 2)
    with pytest.raises(InputError, match="dial is -1"):
        frequent_first(torch.tensor([1]), -1.0)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "neox", "olmo2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_heads_basis_holds_all_that_it_writes(family, dtype):
    from tl_nla.model.reading import read

    model = zoo.bridge(zoo.hf_model(family).to(dtype))
    site = "blocks.1.attn.head.2"
    basis = head_basis(model, site)
    write = read(model, zoo.tokens(), [site]).precise(site)
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(write @ basis @ basis.T, write, atol=1e-5 * write.abs().max().item(), rtol=1e-3)


def test_directions_are_the_unembedding_within_the_basis(llama):
    lens, plain = Lens.of(llama), Vocabulary.of(None, zoo.VOCAB)
    basis = head_basis(llama, "blocks.0.attn.head.1")
    allowed = torch.arange(zoo.VOCAB) % 2 == 0
    found = WordDirections.of(lens, plain, basis, allowed)
    assert found.token.tolist() == list(range(0, zoo.VOCAB, 2))
    for row in (0, 7):
        own = lens.weight[:, found.token[row]] @ basis
        torch.testing.assert_close(found.direction[row], own / own.norm())
    torch.testing.assert_close(found.coordinates(basis.T), torch.eye(8))


def test_of_words_written_alike_the_preferred_one_stays(llama):
    lens = Lens.of(llama)
    texts = ("same", "same", "other", "other", *(f"x{i}" for i in range(4, zoo.VOCAB)))
    alike = Vocabulary(texts, torch.arange(zoo.VOCAB), torch.ones(zoo.VOCAB, dtype=torch.bool))
    glad = torch.ones(zoo.VOCAB)
    glad[1] = 0.5
    found = WordDirections.of(lens, alike, preference=glad)
    assert found.token[:2].tolist() == [0, 3]
    assert len(set(found.text)) == len(found.text) == zoo.VOCAB - 2


def test_what_cannot_be_used_is_refused(llama):
    lens, plain, words = Lens.of(llama), Vocabulary.of(None, zoo.VOCAB), directions()
    with pytest.raises(InputError, match=r"shape \(2, 5\)"):
        pursue(torch.zeros(2, 5), words)
    with pytest.raises(InputError, match="words"):
        pursue(vectors(), words, 0)
    with pytest.raises(InputError, match="no word is left"):
        WordDirections.of(lens, plain, allowed=torch.zeros(zoo.VOCAB, dtype=torch.bool))
    with pytest.raises(InputError, match="allowed: 0 < p <= 1"):
        WordDirections.of(lens, plain, preference=torch.zeros(zoo.VOCAB))
    with pytest.raises(InputError, match="is no head"):
        head_basis(llama, "blocks.0.mlp")
    assert pursue(torch.zeros(0, WIDTH), words, 3).word.shape == (0, 3)
