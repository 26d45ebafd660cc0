"""Which tokens of a byte-pair vocabulary are words, from its merges."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests import zoo
from tl_nla.oracle.labels import Vocabulary, whole_words
from tl_nla.oracle.labels.words import english_words


def byte_level(merged, more=()):
    """A tokenizer with these merges, which are listed by frequency, and some more words of two letters."""
    merges = list(merged)
    for first in "bcdfghjklm":
        merges += [("Ġ", first)] if ("Ġ", first) not in merges else []
        merges += [(f"Ġ{first}", second) for second in "aeiouwxyzv"]
    pieces = dict.fromkeys(sorted({sign for pair in merges for part in pair for sign in part} | set(more)))
    pieces |= dict.fromkeys("".join(pair) for pair in merges)
    backend = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


STEMS = [("Ġ", "s"), ("t", "r"), ("Ġs", "tr"), ("o", "n"), ("on", "g"), ("Ġstr", "ong"), ("u", "g"), ("ug", "g"),
         ("Ġstr", "ugg"), ("l", "e"), ("Ġstrugg", "le"), ("Ġstrugg", "l"), ("e", "r"),
         *[("a", sign) for sign in "bcdefg"],
         ("Ġstrong", "er"), ("C", "S"), ("Ġ", "S"), ("ĠS", "tr"), ("ĠStr", "ugg")]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level(STEMS, more="0123456789.!")


def allowed(tokenizer, piece, **settings):
    found = whole_words(tokenizer, len(tokenizer), **settings)
    return bool(found.allowed[tokenizer.convert_tokens_to_ids(piece)])


@pytest.mark.parametrize(
    ("piece", "named"),
    [("Ġstrong", True), ("Ġstronger", True), ("Ġstruggle", True), ("Ġstrugg", False), ("ĠStrugg", False),
     ("ugg", False), (".", False), ("7", False), ("Ġba", True)],
)  # fmt: skip
def test_words_are_named_and_beginnings_are_not(tokenizer, piece, named):
    assert allowed(tokenizer, piece) is named


def test_what_an_s_continues_is_a_word():
    plural = [*STEMS[:11], ("Ġstrugg", "s"), *STEMS[11:]]
    assert allowed(byte_level(plural), "Ġstrugg")


def test_tokens_of_the_prompt_are_named_all_the_same(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(["Ġstrugg", "."])
    assert allowed(tokenizer, "Ġstrugg", also=ids)
    assert allowed(tokenizer, ".", also=ids)
    assert not allowed(tokenizer, "Ġstrugg")


LISTED = "paris capital strong france london village morning river garden window yellow market Dishes IT".split()


@pytest.fixture(scope="module")
def english():
    """A tokenizer with more than a hundred English words, fragments, code and signs of other scripts."""
    words = [*LISTED, *sorted(word for word in english_words() if len(word) == 4)[:120]]
    words += ["dishwas", "TType", "pl", "xiv", "дом"]
    pieces = [*(f"\u2581{word}" for word in words), "capital", "中", "\u2581中", "."]
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


@pytest.mark.parametrize(
    ("piece", "named"),
    [*((f"\u2581{word}", True) for word in LISTED), ("capital", False), ("\u2581dishwas", False),
     ("\u2581TType", False), ("\u2581pl", False),
     ("\u2581xiv", False), ("中", False), ("\u2581中", False), ("\u2581дом", False), (".", False)],
)  # fmt: skip
def test_an_english_prompt_names_english_words(english, piece, named):
    ids = english("the capital in yellow")["input_ids"]
    known = set(english.convert_ids_to_tokens(ids))
    assert allowed(english, piece) is named
    assert allowed(english, piece, also=ids) is (named or piece in known)


@pytest.mark.parametrize(("prompt", "own", "other"), [("дом", "\u2581дом", "中"), ("中", "中", "\u2581дом")])
def test_a_prompt_in_another_script_names_its_signs(english, prompt, own, other):
    ids = english.convert_tokens_to_ids([own])
    found = whole_words(english, len(english), also=ids)
    named = {english.convert_ids_to_tokens(number) for number in torch.nonzero(found.allowed).flatten().tolist()}
    assert own in named
    assert not named & {other, "\u2581paris", "\u2581dishwas"}


def test_the_list_holds_words_and_no_abbreviations():
    listed = english_words()
    assert {"the", "a", "i", "colour", "color", "paris", "dishes", "mix"} <= listed
    assert not listed & {"dishwas", "pl", "xiv", "b", "cxi", "paris's"}


def test_vocabularies_of_whole_words_and_no_tokenizer_stay_whole():
    tokenizer = zoo.tokenizer()
    for given in (tokenizer, None):
        assert torch.equal(whole_words(given, zoo.VOCAB).allowed, Vocabulary.of(given, zoo.VOCAB).allowed)
