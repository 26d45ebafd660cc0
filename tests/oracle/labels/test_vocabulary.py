import pytest

from docs.studies.tiny.tokenizer import MARKUP, SPECIAL, build_tokenizer
from tl_nla.oracle.labels import Vocabulary


@pytest.fixture(scope="module")
def embedded():
    tokenizer = build_tokenizer()
    return tokenizer, Vocabulary.of(tokenizer, len(tokenizer) + 3)


def test_no_tag_may_be_named(embedded):
    tokenizer, vocabulary = embedded
    for tag in (*MARKUP, *SPECIAL):
        assert not vocabulary.allowed[tokenizer.convert_tokens_to_ids(tag)], tag


def test_words_and_signs_may_be_named(embedded):
    tokenizer, vocabulary = embedded
    for word in (" red", "Tom", ".", "<", ">", "|"):
        (number,) = tokenizer.encode(word, add_special_tokens=False)
        assert vocabulary.allowed[number], word
    assert not vocabulary.allowed[-3:].any()


def test_variants_are_one_word(embedded):
    tokenizer, vocabulary = embedded
    one, two = (tokenizer.convert_tokens_to_ids(text) for text in ("The", "\u0120The"))
    assert one != two
    assert vocabulary.group[one] == vocabulary.group[two]
