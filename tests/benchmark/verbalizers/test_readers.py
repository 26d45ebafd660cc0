"""Blind readers: what they score, and that they learn nothing from nothing."""

import pytest
import torch

from tests import zoo
from tl_nla.benchmark.verbalizers.readers.base import agreement, picked
from tl_nla.benchmark.verbalizers.readers.both import BothReaders
from tl_nla.benchmark.verbalizers.readers.likelihood import LikelihoodReader
from tl_nla.benchmark.verbalizers.readers.overlap import OverlapReader, Rarity, likeness, words_of
from tl_nla.benchmark.verbalizers.readers.ridge import BagReader, ScaledRidge

WORDS = ["w5 w6", "", "w7 w8 w9 w10"]
OPTIONS = [[[11, 12, 13], [14, 15, 16]], [[17, 18, 19], [20, 21, 22]], [[8, 9, 10], [11, 12, 13]]]


@pytest.fixture(scope="module")
def reader():
    """The base model of the zoo as a reader."""
    return LikelihoodReader(zoo.hf_model("llama").eval(), zoo.tokenizer(), [1])


def naive(model, prefix, option):
    """Mean log-likelihood of an option behind a prefix, in one plain pass."""
    with torch.no_grad():
        logprobs = model(torch.tensor([prefix + option])).logits[0].log_softmax(-1)
    return float(torch.stack([logprobs[len(prefix) - 1 + i, t] for i, t in enumerate(option)]).mean())


def test_likelihoods_are_those_of_a_plain_pass_without_cache_or_padding(reader):
    question = [[30], [31, 32], []]
    found, asked = reader.scores(WORDS, OPTIONS), reader.scores(WORDS, OPTIONS, question)
    for row, text in enumerate(WORDS):
        ids = zoo.tokenizer().encode(text, add_special_tokens=False)
        for place, option in enumerate(OPTIONS[row]):
            for scores, ask in ((found, []), (asked, question[row])):
                wanted = naive(reader.model, [1, *ids, *ask], option) - naive(reader.model, [1, *ask], option)
                assert scores[row, place] == pytest.approx(wanted, abs=1e-5)


def test_single_tokens_are_read_from_the_prefix_alone(reader):
    options = [[[11], [12]]] * 3
    for row, text in enumerate(WORDS):
        ids = [1, *zoo.tokenizer().encode(text, add_special_tokens=False)]
        wanted = naive(reader.model, ids, [12]) - naive(reader.model, [1], [12])
        assert reader.scores(WORDS, options)[row, 1] == pytest.approx(wanted, abs=1e-5)


def test_features_and_expectations_do_not_depend_on_the_batch(reader):
    together, alone = reader.features(WORDS, 1), torch.cat([reader.features([text], 1) for text in WORDS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    expected = torch.cat([reader.next_logprobs([text]) for text in WORDS])
    torch.testing.assert_close(reader.next_logprobs(WORDS), expected, atol=1e-5, rtol=1e-4)


def test_features_are_the_states_of_a_plain_pass_and_each_text_is_read_once(reader):
    passes = []
    hook = reader.model.register_forward_pre_hook(lambda module, given: passes.append(given))
    last = reader.model.model.layers[2].register_forward_pre_hook(lambda module, given: passes.append("behind"))
    try:
        fresh = LikelihoodReader(reader.model, zoo.tokenizer(), [1])
        found = fresh.features(["w7 w8 w9 w10", "w7 w8", "w30 w31", "w7 w8"], 1)
        assert len(passes) == 1
        fresh.features(["w7 w8", "w30 w31"], 1)
        assert len(passes) == 1
    finally:
        hook.remove()
        last.remove()
    for row, text in ((0, "w7 w8 w9 w10"), (1, "w7 w8"), (2, "w30 w31"), (3, "w7 w8")):
        ids = torch.tensor([[1, *zoo.tokenizer().encode(text, add_special_tokens=False)]])
        with torch.no_grad():
            states = reader.model(ids, output_hidden_states=True).hidden_states[2][0]
        torch.testing.assert_close(found[row], torch.cat([states[-1], states.mean(0)]), atol=1e-5, rtol=1e-4)


def test_empty_words_say_nothing(reader):
    overlap = OverlapReader(zoo.tokenizer(), Rarity(["w11 w12", "w14"]))
    for one in (reader, overlap, BothReaders(overlap, reader)):
        right = picked(one.scores([""] * 3, OPTIONS), torch.tensor([0, 1, 1]))
        assert right.tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_overlap_counts_rare_words_more():
    rarity = Rarity(["the cat", "the dog", "the bird"])
    assert words_of("The cat's hat") == ["the", "cat", "s", "hat"]
    assert rarity("the") == 0 < rarity("cat") < rarity("hat")
    assert likeness(rarity.vector("the cat"), rarity.vector("a cat")) > 0.4
    assert likeness(rarity.vector("the cat"), rarity.vector("the dog")) == 0


def test_equal_scores_share_the_first_place():
    scores = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0], [3.0, 3.0, 3.0]])
    assert picked(scores, torch.tensor([0, 0, 2])).tolist() == pytest.approx([0.5, 0.0, 1 / 3])
    assert agreement(scores, torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [9.0, 0, 0]])) == pytest.approx(2 / 3)


def test_ridge_finds_a_linear_map_and_holds_strange_features_back():
    generator = torch.Generator().manual_seed(0)
    features, weight = torch.randn(200, 6, generator=generator), torch.randn(6, 3, generator=generator)
    ridge = ScaledRidge.fit(features, features @ weight + 2)
    assert (ridge(features) - features @ weight - 2).abs().max() < 0.1
    assert ridge(1e6 * torch.ones(1, 6)).abs().max() < 100


def test_a_bag_of_words_is_read():
    texts = ["red ball", "blue ball", "red cat", "blue cat"] * 10
    reader = BagReader.fit(texts, torch.tensor([[float("red" in text)] for text in texts]))
    assert reader(["red dog"])[0, 0] > 0.8
    assert reader(["blue dog"])[0, 0] < 0.2
