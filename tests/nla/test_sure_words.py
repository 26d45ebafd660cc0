"""Words said with a low probability are shown as a mark; everything else is the pair's."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests import zoo
from tests.faithfulness.test_abstention import TOKENIZER, generated
from tests.nla import checkpoints
from tests.nla.test_generation import make
from tl_nla import VerbalizerAdapter, attach, read
from tl_nla.errors import InputError
from tl_nla.faithfulness.short_claims import short_claims
from tl_nla.nla import BestOf, SureWords
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.generation import Responses
from tl_nla.nla.sure_words import SureToken, leave_out, sure_tokens
from tl_nla.nla.verbalizer import Generation

CAP = 8


@pytest.fixture(scope="module")
def nla():
    pair = make("llama")
    pair.verbalizer.answers = AnswerRule("all")
    return pair


@pytest.fixture(scope="module")
def acts():
    return torch.randn(6, zoo.D_MODEL, generator=torch.Generator().manual_seed(3))


def said(*words):
    """A text and its tokens, from pieces with their probabilities."""
    text, tokens = "", []
    for piece, probability in words:
        tokens.append(SureToken(len(text), len(text) + len(piece), float(probability)))
        text += piece
    return text, tokens


def test_unsure_words_become_one_mark_and_the_others_stay():
    text, tokens = said(("Next:", 1), (" bed", 0.2), (",", 1), (" dog", 0.9), (".", 1), (" Recent:", 1),
                        (" she", 0.1), (" went", 0.3), (" to", 0.8), (" her", 0.4), (" old", 0.6))  # fmt: skip
    assert leave_out(text, tokens, 0.5) == "Next: …, dog. Recent: … to … old"
    assert leave_out(text, tokens, 0.5, "?") == "Next: ?, dog. Recent: ? to ? old"
    assert leave_out(text, tokens, 0.0) == text
    assert leave_out(text, tokens, 1.0) == "Next: …, …. Recent: …"


def test_a_word_is_as_sure_as_all_its_tokens_together():
    text, tokens = said(("un", 0.7), ("sure", 0.7), (" yes", 0.7))
    assert leave_out(text, tokens, 0.6) == "… yes"
    assert leave_out(text, tokens, 0.4) == text


def test_the_punctuation_behind_a_word_is_not_its_certainty():
    text, tokens = said(("Here", 0.9), (",", 0.1), (" |", 0.2))
    assert leave_out(text, tokens, 0.5) == "Here, …"


def test_a_word_that_is_punctuation_keeps_what_ends_its_part():
    text, tokens = said(("Next:", 1), (" ,", 0.2), (",", 1), (" .", 0.3), (".", 1), (" Recent:", 1), (" old", 1))
    assert text == "Next: ,, .. Recent: old"
    assert leave_out(text, tokens, 0.5) == "Next: …, …. Recent: old"
    assert len(short_claims(leave_out(text, tokens, 0.25))) == 2
    text, tokens = said((" a", 1), (" .", 0.3), (" b", 1))
    assert leave_out(text, tokens, 0.5) == " a … b"


def test_generated_words_carry_their_probabilities():
    text = 'Recent words: " at the park". This is about Tom. Tom is at the farm.'
    case = generated([text], [(" farm", 0.3)])
    assert leave_out(text, sure_tokens(case, TOKENIZER)[0], 0.5) == text.replace(" farm", " …")


def bytewise(response, sure, rule):
    """A response of the byte tokenizer, every byte said for certain but for those of some words."""
    tokenizer = checkpoints.byte_tokenizer()
    ids = torch.tensor([tokenizer.encode(response, add_special_tokens=False)])
    logprobs = torch.zeros(ids.shape)
    for place, probability in sure.items():
        logprobs[0, place] = math.log(probability)
    every = torch.ones_like(ids, dtype=torch.bool)
    case = Generation([rule.extract(response)], every[:, 0], Responses(ids, every, logprobs, every[:, 0]), rule)
    return leave_out(case.texts[0], sure_tokens(case, tokenizer)[0], 0.5)


def test_lines_that_were_put_together_keep_their_own_probabilities():
    response = "- a bed\n- dogs\nno item\n- cat"
    assert bytewise(response, {response.index("dogs"): 0.1}, AnswerRule("bullets")) == "a bed\n…\ncat"
    assert bytewise(response, {response.index("cat"): 0.1}, AnswerRule("bullets")) == "a bed\ndogs\n…"


def test_an_explanation_whose_letters_stand_in_the_tag_keeps_its_own_probabilities():
    said = "<explanation>plan</explanation>"
    assert bytewise(said, {said.index(">plan") + 1: 0.1}, AnswerRule()) == "…"
    assert bytewise(said, {said.index("plan"): 0.1}, AnswerRule()) == "plan"


def test_every_byte_of_a_letter_counts():
    assert bytewise("a café here", {6: 0.1}, AnswerRule("all")) == "a … here"
    assert bytewise("a café here", {5: 0.1}, AnswerRule("all")) == "a … here"
    assert bytewise("a café here", {7: 0.1}, AnswerRule("all")) == "a café here"


def test_words_are_those_of_the_pair_with_marks(nla, acts):
    plain, sure = nla.generate(acts, max_new_tokens=CAP), SureWords(nla, 0.05).generate(acts, max_new_tokens=CAP)
    assert torch.equal(plain.ids, sure.ids)
    assert torch.equal(plain.logprobs, sure.logprobs)
    assert SureWords(nla, 0.0).verbalize(acts, max_new_tokens=CAP) == plain.texts
    for text, marked, tokens in zip(plain.texts, sure.texts, sure_tokens(plain, nla.verbalizer.tokenizer), strict=True):
        assert marked == leave_out(text, tokens, 0.05)
    assert any("…" in text for text in SureWords(nla, 1.0).verbalize(acts, max_new_tokens=CAP))


def test_adapters_take_it_for_a_pair(get_model, nla):
    model, sure = get_model("bridge", "llama"), SureWords(BestOf(nla, 2, 1.0), 0.3)
    adapter, tokens = VerbalizerAdapter(sure, nla.site), zoo.tokens(1, 4)
    with attach(model, adapter):
        model(tokens)
    acts = read(model, tokens, [nla.site], "all")[nla.site]
    assert [row.text for row in adapter.results(tokens, max_new_tokens=CAP)] == sure.verbalize(acts, max_new_tokens=CAP)
    assert sure.layer == nla.layer
    torch.testing.assert_close(sure.reconstruct(["…"]), nla.reconstruct(["…"]))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "settings", [{"threshold": 1.5}, {"threshold": math.nan}, {"mark": "a b"}, {"mark": ""}, {"mark": 3}]
)
def test_settings_out_of_range_are_refused(nla, settings):
    with pytest.raises(InputError, match=r"threshold|mark"):
        SureWords(nla, **settings)


def test_what_is_no_pair_is_refused(nla):
    with pytest.raises(InputError, match="give an NLA"):
        SureWords("smollm2")
    with pytest.raises(InputError, match="leaves out its unsure words already"):
        SureWords(SureWords(nla, 0.2), 0.5)
    with pytest.raises(InputError, match="whose tokens are known"):
        SureWords(SimpleNamespace(generate=nla.generate, reconstruct=nla.reconstruct))
