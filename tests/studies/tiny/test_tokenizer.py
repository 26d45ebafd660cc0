"""The embedded tokenizer: any text goes in and comes out; a word of the world is one token."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.studies.tiny import tokenizer as tokenizer_module
from docs.studies.tiny.tokenizer import (
    EXPLANATION_WORDS,
    INJECTION_CHAR,
    MARKUP,
    SPECIAL,
    build_tokenizer,
    save_tokenizer,
    vocabulary_words,
)
from tl_nla.storyworld.generator import write_story

READABLE = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


@settings(max_examples=150)
@given(text=READABLE)
def test_any_unicode_goes_in_and_out(tokenizer, text):
    assert tokenizer.decode(encode(tokenizer, text)) == text


@given(text=READABLE, word=st.sampled_from(vocabulary_words()))
def test_words_of_the_world_among_any_text(tokenizer, text, word):
    assert tokenizer.decode(encode(tokenizer, text + word + text)) == text + word + text


def test_one_token_a_word(tokenizer):
    for word in vocabulary_words():
        assert len(encode(tokenizer, word)) == 1, word
    for index in range(50):
        story = write_story(51, index)
        ids = encode(tokenizer, story.text)
        assert [tokenizer.decode([i]).strip() for i in ids] == list(story.words)


def test_marks_of_the_nla_are_one_token_each(tokenizer):
    for text in (INJECTION_CHAR, *MARKUP, *SPECIAL, *(" " + word for word in EXPLANATION_WORDS)):
        assert len(encode(tokenizer, text)) == 1, text
    assert set(tokenizer.all_special_ids) <= set(tokenizer.convert_tokens_to_ids(list(SPECIAL)))


def test_bytes_alone_are_tokens(tokenizer):
    """Every byte has a token, so no text needs an unknown one."""
    ids = encode(tokenizer, "\u4e2d\U0001f600\x00\x7f")
    assert len(ids) == 3 + 4 + 1 + 1


def test_the_shipped_tokenizer_is_the_one_that_is_built(tokenizer):
    from tl_nla.model.loading import load_tokenizer
    from tl_nla.model.targets import TINY, model_folder

    shipped = load_tokenizer(model_folder(TINY))
    assert shipped.get_vocab() == build_tokenizer().get_vocab()
    assert encode(shipped, write_story(1, 1).text) == encode(tokenizer, write_story(1, 1).text)


def test_chat_is_templated_in_one_step(tokenizer):
    chat = [{"role": "user", "content": "Hello"}]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(ids) == "<|user|>Hello<|assistant|>"


def test_a_folder_that_gives_another_tokenizer_back_is_refused(tmp_path, monkeypatch):
    """A configuration in the folder may make transformers build a tokenizer of another model's."""
    other = build_tokenizer()
    other.add_tokens(["one more"])
    monkeypatch.setattr(tokenizer_module.AutoTokenizer, "from_pretrained", lambda folder: other)
    with pytest.raises(RuntimeError, match="use an empty folder"):
        save_tokenizer(tmp_path)
