"""Heads that were set by hand are found, and random ones are called nothing."""

import functools
import random

import pytest
import torch

from tests import families, zoo
from tests.reports.heads import planted
from tl_nla.errors import InputError
from tl_nla.oracle.labels import Lens
from tl_nla.reports import head_cards
from tl_nla.reports.heads import repeated
from tl_nla.reports.heads.kinds import THRESHOLDS, kinds_of
from tl_nla.reports.heads.ov_circuit import ov_scores, read_back
from tl_nla.reports.heads.watch import layer_weight


@functools.cache
def cards(kind):
    if kind == "hooked" and not zoo.HAS_HOOKED_TRANSFORMER:
        pytest.skip("HookedTransformer left TransformerLens with version 4")
    return head_cards(planted.model(kind), planted.texts(), effects=2)


def random_texts(count=12, length=30):
    draw = random.Random(1)
    return [" ".join(f"w{draw.randrange(4, zoo.VOCAB)}" for _ in range(length)) for _ in range(count)]


@pytest.mark.parametrize("kind", ["bridge", "hooked"])
def test_planted_heads_are_found_and_no_others(kind):
    found = {(card.layer, card.head): card.kinds for card in cards(kind).cards}
    assert found == {head: (name,) if name else () for head, name in planted.KINDS.items()}
    assert all(cards(kind).of_kind(name) for name in THRESHOLDS)


def test_what_planted_heads_look_at_and_read():
    found = cards("bridge")
    assert found["L1.H2"].attention.offsets[4] > 0.9
    assert found["L0.H2"].attention.sink > 0.99
    assert found["L0.H2"].reads == ()
    signs = [text for text, share in found["L1.H1"].reads if share > 0.1]
    assert set(signs) == set(planted.SIGNS)
    for example in found["L0.H0"].examples:
        [(text, back, share), *_] = example.sources
        assert back == 1
        assert share > 0.9
        assert text == example.before.split()[-1]
    assert found["L0.H0"].name == "L0.H0"
    with pytest.raises(InputError, match=r"L0\.H1"):
        found["L0.H9"]


def test_words_of_a_copying_head_hold_its_writes_and_those_of_other_writes_do_not():
    words = cards("bridge")["L2.H0"].words
    assert words.fve > 0.6
    assert words.fve_shuffled < 0.1
    assert cards("bridge")["L0.H2"].words.fve is None  # it writes the same everywhere
    assert cards("bridge")["L0.H2"].words.usual == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "llama", "neox", "gemma3"])
def test_random_heads_are_none_of_the_kinds(family):
    found = head_cards(zoo.bridge(family), random_texts(), effects=1, documents=8)
    assert len(found) == zoo.N_LAYERS * zoo.N_HEADS
    assert not any(card.kinds for card in found.cards)
    assert all(card.matters.skip_kl is not None for card in found.cards)


def test_layers_without_attention_are_told_in_one_sentence():
    model = families.bridge("olmo_hybrid", tokenizer=True)
    found = head_cards(model, random_texts(), effects=1, documents=8)
    assert {card.layer for card in found.cards} == {1, 3}
    told = [note for note in found.notes if note.startswith("Layer")]
    assert [note[:7] for note in told] == ["Layer 0", "Layer 2"]
    assert all("no part 'attn'" in note and "\n" not in note for note in told)
    with pytest.raises(InputError, match="no layer has attention heads"):
        head_cards(model, random_texts(), layers=(0, 2))


def test_duplicate_scores_are_those_of_transformer_lens():
    from transformer_lens.head_detector import detect_head

    model = planted.model("bridge")
    tokens = repeated.repeated_tokens(model, 0)[:1]
    own = repeated.repetition_scores(model, tokens, [0, 1, 2])
    expected = detect_head(model, model.tokenizer.decode(tokens[0, 1:]), "duplicate_token_head")
    half = (tokens.shape[1] - 1) // 2  # theirs is a share of all queries, ours of those that have an earlier one
    for layer in range(3):
        assert torch.allclose(own[layer][:, 0] * half / tokens.shape[1], expected[layer], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "family"), [("bridge", "llama"), ("bridge", "gpt2"), ("hooked", "llama"), ("hooked", "gpt2")]
)
def test_copying_by_weights_is_that_of_the_whole_circuit(get_model, kind, family):
    model = get_model(kind, family)
    lens, weight = Lens.of(model), layer_weight(model, 1)
    found = ov_scores(model, 1, weight, read_back(model, lens))
    gain = next(value for name, value in model.blocks[1].ln1.named_parameters() if name.endswith(("weight", "w")))
    values = model.blocks[1].attn.W_V.repeat_interleave(zoo.N_HEADS // len(model.blocks[1].attn.W_V), 0)
    rows = model.W_E - model.W_E.mean(-1, keepdim=True) if family == "gpt2" else model.W_E
    for head in range(zoo.N_HEADS):
        inner = rows * gain
        write = (inner - inner.mean(0)) @ values[head] @ weight[head]
        write = write - write.mean(-1, keepdim=True) if lens.centred else write
        logits = write * lens.gain @ model.W_U
        own = torch.linalg.eigvals((logits - logits.mean(-1, keepdim=True)).detach().double())
        assert found[head] == pytest.approx(float(own.real.sum() / own.abs().sum()), abs=2e-2)


def test_a_planted_copying_head_has_positive_eigenvalues():
    assert cards("bridge")["L2.H0"].words.ov > 0.9
    model = planted.model("bridge")
    turned = ov_scores(model, 2, -layer_weight(model, 2), read_back(model, Lens.of(model)))
    assert turned[0] < -0.9


def test_thresholds_and_shapes_decide():
    shape = {"delimiter_chance": 0.3, "peak": 0.9, "sink": 0.1}
    assert kinds_of({"delimiter": 0.5}, shape) == ()  # no more than by an even spread
    assert kinds_of({"delimiter": 0.7}, shape) == ("delimiter",)
    assert kinds_of({"positional": 0.9}, shape) == ("positional",)
    assert kinds_of({"positional": 0.9}, {**shape, "sink": 0.9}) == ()
    assert kinds_of({"positional": 0.9}, {**shape, "peak": 0.1}) == ()
    assert kinds_of({"positional": 0.9, "previous token": 0.8, "copying": 0.95}, shape) == ("previous token", "copying")
