"""Headlines, words, cheaters, mixing, silence, claims, and the parts on the disk."""

import json

import pytest
import torch

from tests import zoo
from tl_nla.benchmark.verbalizers.cheaters import LetterCode, constant_cheater, quoting_cheater
from tl_nla.benchmark.verbalizers.headline import headline
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.runner import check_kept
from tl_nla.benchmark.verbalizers.tasks.claims import claim_accuracy
from tl_nla.benchmark.verbalizers.tasks.next_token import mixing_weights
from tl_nla.benchmark.verbalizers.tasks.planted import english_facts
from tl_nla.benchmark.verbalizers.tasks.silence import empty_rows, is_silent
from tl_nla.benchmark.verbalizers.verbalizer import as_verbalizer
from tl_nla.benchmark.verbalizers.words import Arm, Words, quote_end
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.metrics import normalise, squared_deviations


def rows(count=12, seed=0):
    """Rows of a random model."""
    acts = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    return Rows("test", acts, [[1, *range(5, 15 + row)] for row in range(count)], torch.arange(count) // 2)


def test_the_headline_is_against_the_best_control_of_every_draw():
    document = torch.arange(40)
    own, low, high = torch.full((40,), 0.5), torch.zeros(40), torch.full((40,), 0.4)
    found = headline(own, {"mean": low, "black_box_end": high}, document, 0)
    assert found.best == "black_box_end"
    assert found.gain.value == pytest.approx(0.1)
    assert found.passed
    split = torch.cat([torch.ones(20), torch.zeros(20)])
    lucky = headline(own, {"mean": split, "shuffled": 1 - split}, document, 0)
    assert lucky.gain.value == pytest.approx(0)
    assert lucky.gain.high <= 1e-9
    assert lucky.gain.low < -0.05
    with pytest.raises(InputError, match="needs a control"):
        headline(own, {}, document, 0)


def test_a_quote_keeps_its_last_token_when_it_is_read_again():
    tokenizer = zoo.tokenizer()
    assert quote_end(tokenizer, [5, 6, 7, 8], 2) == "w7 w8"

    class Splitting:
        """Its first token splits in two when it stands first."""

        def decode(self, ids, **settings):
            return tokenizer.decode(ids)

        def encode(self, text, **settings):
            ids = tokenizer.encode(text, add_special_tokens=False)
            return [*ids[:1], *ids]

    assert quote_end(Splitting(), [5, 6, 7, 8], 3) == "w7 w8"


def test_words_are_cut_kept_and_read_again(tmp_path):
    calls = []

    def say(asked, lengths):
        calls.append(len(asked))
        return [f"w{5 + row} w6 w7 w8" for row in range(len(asked))]

    own = Arm("explanation", say, "verbalizer")
    long = Arm("probe", lambda asked, lengths: ["w9 " * 60] * len(asked))
    whole = Arm("mean", lambda asked, lengths: ["w9 " * 60] * len(asked), equal=False)
    words = Words(own, zoo.tokenizer(), 6, tmp_path)
    assert words(own, rows(3))[0] == "w5 w6 w7 w8"
    assert words.lengths(rows(3)) == [4, 4, 4]
    assert words(long, rows(3))[0].split() == ["w9"] * 4
    assert words(whole, rows(3))[0].split() == ["w9"] * 6
    end = Arm("black_box_end", lambda asked, lengths: ["w5 w6 w7 w8"] * len(asked), keeps="end")
    assert words(end, rows(3), 2)[0] == "w7 w8"
    assert words.say(own)(rows(3), 2)[0] == "w5 w6"
    again = Words(own, zoo.tokenizer(), 6, tmp_path)
    assert again(own, rows(3)) == words(own, rows(3))
    assert calls == [3]
    (tmp_path / "words" / "explanation__test.json").write_text("[")
    with pytest.raises(InputError, match="damaged"):
        Words(own, zoo.tokenizer(), 6, tmp_path)(own, rows(3))


def test_an_arm_has_to_give_one_text_a_row():
    own = Arm("explanation", lambda asked, lengths: ["one"], "verbalizer")
    with pytest.raises(InputError, match="1 answers for 12 vectors"):
        Words(own, zoo.tokenizer(), 6)(own, rows())


def test_parts_of_another_run_are_refused(tmp_path):
    check_kept(None, {})
    check_kept(tmp_path / "parts", {"seed": 0})
    check_kept(tmp_path / "parts", {"seed": 0})
    assert json.loads((tmp_path / "parts" / "benchmark.json").read_text())["settings"] == {"seed": 0}
    with pytest.raises(InputError, match="other settings"):
        check_kept(tmp_path / "parts", {"seed": 1})


def test_the_letter_code_is_read_by_its_own_decoder():
    acts = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(16, 0, -1)
    code = LetterCode(acts, zoo.tokenizer())
    asked = Rows("test", acts[:50], [[1]] * 50, torch.arange(50))
    texts = code.say(asked, [30] * 50)
    mean = normalise(acts).mean(0)
    missed = (normalise(code.reconstruct(texts)) - normalise(acts[:50])).square().sum()
    assert 1 - float(missed / squared_deviations(acts[:50], mean).sum()) > 0.8
    assert len(set(texts)) > 40
    assert set(" ".join(texts).split()) <= set(code.symbols)
    assert len(code.say(asked, [3] * 50)[0].split()) == 3


def test_the_other_cheaters_quote_and_repeat():
    own = Arm("explanation", lambda asked, lengths: ["w5" if row else "w6" for row in range(len(asked))], "verbalizer")
    words = Words(own, zoo.tokenizer(), 6)
    assert quoting_cheater(zoo.tokenizer()).say(rows(2), [2, 2]) == ["w13 w14", "w14 w15"]
    assert constant_cheater(words, rows(5)).say(rows(3), [1, 1, 1]) == ["w5"] * 3


def test_mixing_weights_find_the_mixture():
    generator = torch.Generator().manual_seed(0)
    guesses = torch.rand(60, 3, 20, generator=generator).pow(4)
    guesses = guesses / guesses.sum(-1, keepdim=True)
    wanted = 0.2 * guesses[:, 0] + 0.8 * guesses[:, 2]
    assert mixing_weights(guesses, wanted).tolist() == pytest.approx([0.2, 0.0, 0.8], abs=0.03)


def test_silence_is_words_that_say_so():
    assert is_silent("")
    assert is_silent("...")
    assert is_silent("The content is unknown.")
    assert is_silent("Cannot tell")
    assert not is_silent("A story about a dog")
    assert not is_silent("They know it")
    nothing = empty_rows(rows(), rows(seed=1), 4, 0)
    assert len(nothing) == 12
    assert torch.allclose(nothing.acts[4:8], rows(seed=1).acts.mean(0).expand(4, -1))
    assert torch.allclose(nothing.acts[:4].norm(dim=1), nothing.acts[8:].norm(dim=1), rtol=1e-5)


def test_claims_count_what_is_true_said_and_expected():
    from tl_nla.plugins import embedded

    grammar = embedded("tiny").GRAMMAR
    truth = embedded("tiny").explainer("blocks.2.hook_resid_post", None, False)(
        "Tom was at the park.", [_moment("Tom was at the park.")]
    )[0][1]
    gold = "This is about Tom. Tom is at the park."
    texts = [gold, "Tom is at the farm.", "", "This is about Tom."]
    found = claim_accuracy(texts, [truth] * 4, [gold] * 4, grammar).tolist()
    assert found == pytest.approx([1.0, 0.0, 0.0, 2 / 3])


def _moment(text):
    from tl_nla.explainers import Moment

    return Moment(text, text, [], torch.zeros(4))


def test_facts_are_told_early_and_asked_late():
    facts = english_facts([Document("a", "some words " * 80), Document("b", "other words " * 80)], 6, 0)
    assert facts != english_facts([Document("a", "some words " * 80), Document("b", "other words " * 80)], 6, 1)
    for fact in facts:
        stem = fact.text.rpartition("As I said before, ")[2]
        assert f"By the way, {stem}{fact.answer}." in fact.text
        assert fact.answer in fact.options
        assert len(set(fact.options)) == 10
        assert not fact.text.endswith(fact.answer)


def test_anything_that_tells_vectors_can_be_benchmarked():
    found = as_verbalizer(lambda acts: ["a"] * len(acts), layer=1, name="mine")
    assert found.say(torch.zeros(2, 3)) == ["a", "a"]
    assert (found.name, found.layer) == ("mine", 1)
    assert as_verbalizer(found) is found
    with pytest.raises(InputError, match="tells no vectors"):
        as_verbalizer(3)
