from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docs.studies.tiny.tokenizer import build_tokenizer
from tests import families, zoo
from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of
from tl_nla.nla.marker import choose_injection_char
from tl_nla.oracle.labels import Lens, Vocabulary, probability_effects, strongest, write_effects

PLAIN = Vocabulary.of(None, zoo.VOCAB)


def write_and_state(seed=0, rows=5, width=zoo.D_MODEL):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, width, generator=generator)


def test_equals_the_change_of_logits_at_fixed_scale_in_every_family(bridge, family):
    """A write small enough to leave the final norm's scale alone changes the true logits by what the lens says."""
    write, before = write_and_state()
    write = write * 1e-3
    # Out of the scale's reach: the write is made orthogonal to the state (centred, for LayerNorm).
    lens = Lens.of(bridge)
    middle = before - before.mean(-1, keepdim=True) if lens.centred else before
    write = write - (write * middle).sum(-1, keepdim=True) / (middle * middle).sum(-1, keepdim=True) * middle
    found = write_effects(lens, write, before, PLAIN, top_k=5)
    raw = getattr(bridge.cfg, "output_logits_soft_cap", None)
    if family == "gemma2" or (raw is not None and raw > 0):
        with torch.no_grad():
            change = (bridge.unembed(bridge.ln_final(before + write)) - bridge.unembed(bridge.ln_final(before))).float()
    else:
        out = facts_of(bridge).readout
        change = (out.logits(before + write) - out.logits(before)).float()
    change = change - change.mean(-1, keepdim=True)
    expected = change.topk(5)
    torch.testing.assert_close(found.promoted_value, expected.values, rtol=2e-2, atol=2e-5)
    torch.testing.assert_close(change.gather(1, found.suppressed), found.suppressed_value, rtol=2e-2, atol=2e-5)
    assert (found.suppressed_value[:, 0] - change.amin(-1)).abs().max() < 2e-5


@given(st.integers(0, 1000))
def test_swapping_the_sign_swaps_the_lists(get_model, seed):
    lens = Lens.of(get_model("bridge", "llama"))
    write, before = write_and_state(seed)
    plus, minus = (write_effects(lens, sign * write, before, PLAIN) for sign in (1, -1))
    assert torch.equal(plus.promoted, minus.suppressed)
    torch.testing.assert_close(plus.suppressed_value, -minus.promoted_value)


def test_variants_of_a_word_count_once(llama):
    lens = Lens.of(llama)
    write, before = write_and_state()
    pairs = Vocabulary(tuple(f"w{i // 2}" for i in range(zoo.VOCAB)), torch.arange(zoo.VOCAB) // 2, PLAIN.allowed)
    found = write_effects(lens, write, before, pairs, top_k=6)
    values = lens.logits(write) / lens.scale(before)[:, None]
    expected = values.reshape(len(write), -1, 2).amax(-1).topk(6)
    torch.testing.assert_close(found.promoted_value, expected.values)
    assert torch.equal(found.promoted // 2, expected.indices)


def test_forbidden_tokens_are_never_named(llama):
    lens = Lens.of(llama)
    write, before = write_and_state()
    allowed = torch.arange(zoo.VOCAB) >= zoo.VOCAB - 3
    found = write_effects(lens, write, before, Vocabulary(PLAIN.texts, PLAIN.group, allowed), top_k=6)
    named = torch.cat([found.promoted, found.suppressed], 1)
    assert set(named.unique().tolist()) == {-1, zoo.VOCAB - 3, zoo.VOCAB - 2, zoo.VOCAB - 1}


@pytest.fixture
def small_pieces(monkeypatch):
    """The vocabularies of these tests take several pieces."""
    monkeypatch.setattr(strongest, "_TOKENS", 4096)


def large_lens(vocab, width=8):
    """A vocabulary of more tokens than are looked at together."""
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(width, vocab, generator=draw)
    return Lens(weight, False, torch.rand(width, generator=draw) + 0.5, weight.mean(1))


@pytest.mark.parametrize("spellings", [1, 2])
def test_the_strongest_of_a_large_vocabulary_are_those_of_its_logits(small_pieces, spellings):
    lens, vocab = large_lens(9_000), 9_000
    write, before = write_and_state(rows=600, width=8)
    named = Vocabulary.of(None, vocab)
    named = Vocabulary(named.texts, torch.arange(vocab) // spellings, named.allowed)
    found = write_effects(lens, write, before, named, top_k=6)
    logits = (lens.logits(write) / lens.scale(before)[:, None]).unflatten(1, (-1, spellings))
    up, down = logits.amax(-1).topk(6), (-logits).amax(-1).topk(6)
    assert torch.equal(found.promoted // spellings, up.indices)
    assert torch.equal(found.suppressed // spellings, down.indices)
    torch.testing.assert_close(found.promoted_value, up.values)
    torch.testing.assert_close(found.suppressed_value, -down.values)


def test_a_piece_full_of_one_word_hides_no_other(small_pieces):
    """A piece keeps few candidates; where all of them are spellings of one word, the row is looked at as a whole."""
    lens, vocab = large_lens(9_000), 9_000
    lens.weight[:, :4_000] *= 3  # the strongest stand in the first piece
    write, before = write_and_state(rows=7, width=8)
    order = lens.logits(write)[0].argsort(descending=True)
    group = torch.arange(vocab)
    group[order[:9]] = int(order[0])
    named = Vocabulary.of(None, vocab)
    found = write_effects(lens, write, before, Vocabulary(named.texts, group, named.allowed), top_k=3)
    assert order[:11].max() < 4_000
    assert found.promoted[0].tolist() == order[[0, 9, 10]].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_some_tokens_by_pieces_are_those_of_the_whole_product(dtype):
    lens, (write, _) = large_lens(300_000), write_and_state(rows=3, width=8)
    lens = replace(lens, weight=lens.weight.to(dtype))
    plain = (write * lens.gain) @ lens.weight.float()
    plain = plain - (write * lens.gain) @ lens.mean[:, None]
    tokens = torch.arange(3, 300_000, 1)
    torch.testing.assert_close(lens.logits(write, tokens), plain[:, tokens])
    torch.testing.assert_close(lens.logits(write), plain)


@pytest.fixture
def half_units(monkeypatch):
    """Products in bfloat16 come first, however small the vocabulary is and whatever this processor has."""
    monkeypatch.setattr(strongest, "_WIDE", 1)
    monkeypatch.setattr(strongest, "_has_half_units", lambda: True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.02, 0.001]))
def test_products_in_bfloat16_name_what_float32_products_name(half_units, dtype, seed, apart):
    """Tokens that lie close together: coarse products alone would name others, and in another order."""
    draw = torch.Generator().manual_seed(seed)
    size = 600
    common = torch.randn(24, 12, generator=draw).repeat(1, size // 12)
    weight = (common + apart * torch.randn(24, size, generator=draw)).to(dtype)
    lens = Lens(weight, False, torch.rand(24, generator=draw), weight.float().mean(1))
    write, group = torch.randn(9, 24, generator=draw), torch.randint(500, (size,), generator=draw)
    named = torch.randperm(size, generator=draw)[:550].sort().values
    exact = lens.logits(write, named)
    for largest, (numbers, values) in zip(
        (True, False), strongest.strongest(lens, write, named, group[named], 4), strict=True
    ):
        _, expected = strongest.top_words(exact, group[named], 4, 0.0, largest, len(named))
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
        own = exact.gather(1, numbers.clamp_min(0)) * (1 if largest else -1)
        torch.testing.assert_close(own.masked_fill(numbers < 0, 0.0), values, rtol=1e-5, atol=1e-5)


def test_a_token_whose_weights_lose_most_in_bfloat16_is_found(half_units):
    """The best of all comes to half of itself in bfloat16, behind more tokens than are kept."""
    weight = torch.tensor([1.0, -1.0, 0.006]).repeat(100, 1)
    weight[7] = torch.tensor([1.0070, -1.0, 0.0])  # .0070, and .0078 in bfloat16
    weight[90] = torch.tensor([1.0039, -0.9960, 0.0])  # .0079, and .0039 in bfloat16
    lens, tokens = Lens(weight.T.contiguous(), False), torch.arange(100)
    (promoted, _), _ = strongest.strongest(lens, torch.ones(1, 3), tokens, tokens, 1)
    assert promoted.tolist() == [[90]]


@pytest.mark.parametrize("alike", [20, 400])
def test_close_tokens_of_several_pieces_are_settled_in_float32(small_pieces, alike):
    """More tokens than are listed at first are close: those that were kept settle it (20 alike), or all do (400)."""
    draw, size = torch.Generator().manual_seed(7), 20_000
    common = torch.randn(24, size // alike, generator=draw).repeat(1, alike)
    weight = (common + 0.01 * torch.randn(24, size, generator=draw)).bfloat16()
    lens = Lens(weight, False, torch.rand(24, generator=draw), weight.float().mean(1))
    write, tokens = torch.randn(40, 24, generator=draw), torch.arange(size)
    exact = lens.logits(write, tokens)
    for largest, (numbers, values) in zip(
        (True, False), strongest.strongest(lens, write, tokens, tokens, 4), strict=True
    ):
        expected = (exact if largest else -exact).topk(4).values
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
        own = exact.gather(1, numbers) * (1 if largest else -1)
        torch.testing.assert_close(own, values, rtol=1e-5, atol=1e-5)


def test_the_unembedding_is_not_copied(llama):
    assert Lens.of(llama).weight.data_ptr() == llama.W_U.data_ptr()


def test_a_model_has_one_lens_until_its_weights_change():
    model = families.bridge("llama")
    lens = Lens.of(model)
    assert Lens.of(model) is lens
    with torch.no_grad():
        model.W_U.mul_(2)
    torch.testing.assert_close(Lens.of(model).mean, 2 * lens.mean)


def test_zero_write_has_no_effect(llama):
    write, before = write_and_state()
    found = write_effects(Lens.of(llama), write * 0, before, PLAIN)
    assert (found.promoted == -1).all()
    assert (found.suppressed == -1).all()


def test_probability_version(bridge):
    write, before = write_and_state()
    found = probability_effects(bridge, 3 * write, before, PLAIN, top_k=3, floor=0.02)
    out = facts_of(bridge).readout
    change = out.logits(before + 3 * write).softmax(-1) - out.logits(before).softmax(-1)
    for row in range(len(write)):
        expected = [i for i in change[row].argsort(descending=True)[:3].tolist() if change[row, i] > 0.02]
        assert [i for i in found.promoted[row].tolist() if i >= 0] == expected
        lowered = [i for i in change[row].argsort()[:3].tolist() if change[row, i] < -0.02]
        assert [i for i in found.suppressed[row].tolist() if i >= 0] == lowered


def test_vocabulary_of_a_tokenizer(tokenizer):
    vocabulary = Vocabulary.of(tokenizer, zoo.VOCAB + 2)
    assert vocabulary.texts[5] == "w5"
    assert not vocabulary.allowed[:4].any()
    assert not vocabulary.allowed[-2:].any()
    assert vocabulary.words(torch.tensor([[5, -1], [6, 7]])) == [["w5"], ["w6", "w7"]]


def test_the_marker_of_readers_is_never_named():
    tokenizer = build_tokenizer()
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer))
    marker = tokenizer.encode(choose_injection_char(tokenizer), add_special_tokens=False)[0]
    assert vocabulary.texts[marker] == ""
    assert not vocabulary.allowed[marker]
    assert not vocabulary.allowed[tokenizer.encode("\x06", add_special_tokens=False)[0]]
    word = tokenizer.encode(" red", add_special_tokens=False)[0]
    assert vocabulary.texts[word] == "red"
    assert vocabulary.allowed[word]


def test_refusals(llama):
    write, before = write_and_state()
    lens = Lens.of(llama)
    with pytest.raises(InputError, match="top_k is 0"):
        write_effects(lens, write, before, PLAIN, top_k=0)
    with pytest.raises(InputError, match="vocabulary 3"):
        write_effects(lens, write, before, Vocabulary.of(None, 3))


@pytest.mark.parametrize("variants", [6, 40, 150])
def test_rows_whose_strongest_tokens_are_one_word_look_further(variants):
    """Other rows of the same batch find enough words at once; every row gets what sorting all tokens gives."""
    size = 160
    group = torch.arange(size).clamp_min(variants - 1)  # the first tokens spell one word
    vocabulary = Vocabulary(tuple(map(str, range(size))), group, torch.ones(size, dtype=torch.bool))
    lens = Lens(torch.eye(size), False)
    write = torch.randn(6, size, generator=torch.Generator().manual_seed(variants))
    write[::2, :variants] += 10.0
    write[1, :variants] -= 10.0
    found = write_effects(lens, write, torch.ones(6, size), vocabulary)
    for row, values in enumerate(write.tolist()):
        for sign, tokens, told in (
            (1, found.promoted, found.promoted_value),
            (-1, found.suppressed, found.suppressed_value),
        ):
            named: list[int] = []
            for token in sorted(range(size), key=lambda one: -sign * values[one]):
                if sign * values[token] > 0 and group[token] not in [group[known] for known in named]:
                    named.append(token)
            wanted = (named[:4] + [-1] * 4)[:4]
            assert tokens[row].tolist() == wanted
            assert told[row].tolist() == pytest.approx([values[one] if one >= 0 else 0.0 for one in wanted], rel=1e-5)
