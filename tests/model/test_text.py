"""Texts become the ids that TransformerLens, or the tokenizer by itself, makes of them; never two begin tokens."""

import functools

import pytest
import torch

from tests import tokenizers, zoo
from tl_nla.errors import InputError
from tl_nla.model.targets import load_target
from tl_nla.model.text import TextEncoder, TextTokens

FAMILIES = ("qwen2", "llama", "gpt2")  # TransformerLens puts no begin token before Qwen's texts, one before the others'
TEXTS = ("Hello there", "w5 w6", "a", "\n\n", "The 2nd, and last.")
SWITCH = (None, True, False)
bridge = functools.cache(tokenizers.bridge)


def doubled(ids, begin):
    return len(begin) == 1 and ids[:2] == begin * 2


@pytest.mark.parametrize("shape", tokenizers.SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prepend_bos", SWITCH)
def test_ids_are_those_of_the_model(family, shape, prepend_bos):
    model, tokenizer = bridge(family, shape)
    encode = TextEncoder(tokenizer, model, prepend_bos)
    for text in TEXTS:
        found = encode(text)
        assert found.ids == model.to_tokens(text, prepend_bos=prepend_bos)[0].tolist(), text
        assert tokenizer.decode(found.ids[found.added :]) == tokenizer.decode(
            tokenizer.encode(text, add_special_tokens=False)
        )
        assert found.added == len(encode.begin)


@pytest.mark.skipif(not zoo.HAS_HOOKED_TRANSFORMER, reason="HookedTransformer left TransformerLens with version 4")
@pytest.mark.parametrize("prepend_bos", SWITCH)
def test_ids_are_those_of_a_hooked_transformer(prepend_bos):
    model = zoo.hooked_transformer()
    found = TextEncoder(zoo.tokenizer(), model, prepend_bos)("w5 w6")
    assert found.ids == model.to_tokens("w5 w6", prepend_bos=prepend_bos)[0].tolist()


@pytest.mark.parametrize("shape", ["qwen", "smollm", "gpt2", "adds_begin", "adds_end"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prepend_bos", SWITCH)
def test_a_chat_never_starts_with_two_begin_tokens(family, shape, prepend_bos):
    model, tokenizer = bridge(family, shape)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    encode, theirs = (
        TextEncoder(tokenizer, model, prepend_bos),
        model.to_tokens(chat, prepend_bos=prepend_bos)[0].tolist(),
    )
    found = encode(chat)
    assert not doubled(found.ids, encode.begin)
    assert found.ids == (theirs[1:] if doubled(theirs, encode.begin) else theirs)
    assert tokenizer.decode(found.ids[found.added :]) == chat, "what was added is no part of the text"


def test_smollm_chat_starts_once():
    model, tokenizer = bridge("llama", "smollm")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert model.to_tokens(chat)[0, :2].tolist() == [start, start]
    assert TextEncoder(tokenizer, model)(chat).ids == tokenizer.encode(chat, add_special_tokens=False)
    assert TextEncoder(tokenizer, model)("Hello").ids[0] == start


def test_the_end_token_does_not_begin_a_text_because_transformer_lens_says_it_could():
    model, tokenizer = bridge("qwen2", "qwen")
    assert tokenizer.bos_token_id == tokenizer.eos_token_id, "TransformerLens no longer sets it; simplify"
    plain = tokenizer.encode("Hello", add_special_tokens=False)
    for encode in (TextEncoder(tokenizer, model), TextEncoder(tokenizer), TextEncoder(tokenizers.make("qwen"))):
        assert encode("Hello") == TextTokens(plain, 0)
    assert TextEncoder(tokenizer, model, True)("Hello").ids == [tokenizer.eos_token_id, *plain]


@pytest.mark.parametrize("shape", tokenizers.SHAPES)
def test_without_a_model_the_tokenizer_decides(shape):
    tokenizer = tokenizers.make(shape)
    own = tokenizer("Hello there")["input_ids"]
    if own[-1] == tokenizer.eos_token_id:
        own = own[:-1]  # no text is closed before it is read
    begins = shape in ("smollm", "words")  # a begin token of its own, though nobody puts it in front
    assert TextEncoder(tokenizer)("Hello there").ids == ([tokenizer.bos_token_id, *own] if begins else own)
    assert TextEncoder(tokenizer, None, False)("Hello there").ids == tokenizer.encode(
        "Hello there", add_special_tokens=False
    )


def test_embedded_model_keeps_its_begin_token():
    target = load_target("tiny")
    ids = [target.tokenizer.bos_token_id, *target.tokenizer.encode("Tom was happy.", add_special_tokens=False)]
    for encode in (TextEncoder(target.tokenizer, target.model), TextEncoder(target.tokenizer)):
        assert encode("Tom was happy.") == TextTokens(ids, 1)
    assert TextEncoder(target.tokenizer, target.model, False)("Tom was happy.") == TextTokens(ids[1:], 0)


def test_a_loaded_target_can_be_told_to_leave_the_begin_token_out(tmp_path):
    assert (
        load_target("tiny", prepend_bos=False).model.to_tokens("Tom was")[0].tolist()
        == TextEncoder(load_target("tiny").tokenizer)("Tom was").ids[1:]
    )
    tokenizers.save_model(tmp_path, "qwen2", "qwen")
    target = load_target(tmp_path, prepend_bos=True)
    assert TextEncoder(target.tokenizer, target.model)("a").added == 1


def test_parts_of_a_text():
    encode = TextEncoder(zoo.tokenizer())
    assert encode.behind_begin([7, 8]) == TextTokens([1, 7, 8], 1)
    assert encode.behind_begin([1, 8]) == TextTokens([1, 8], 0)
    assert encode.behind_begin([]) == encode("") == TextTokens([1], 1)
    assert encode("w4 w5").cut(2) == TextTokens([1, 4], 1)
    assert len(encode("w4 w5")) == 3


def test_an_invented_token_is_not_put_in_front():
    # A tokenizer without an end token: TransformerLens adds one that the model has no row for.
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<unk>": 0, "w1": 1, "w2": 2}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = tokenizers.reloaded(PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>"))
    model = zoo.hf_model("llama", vocab_size=3)
    from transformer_lens.model_bridge import TransformerBridge

    boot = TransformerBridge.boot_transformers
    bridged = boot("local/tiny", hf_model=model, tokenizer=tokenizer, device="cpu", dtype=model.dtype)
    assert TextEncoder(tokenizer, bridged)("w1 w2") == TextTokens([1, 2], 0)


def test_refusals(llama):
    words = tokenizers.make("words_without_begin")
    with pytest.raises(InputError, match="no begin token"):
        TextEncoder(words, None, True)
    for encode in (TextEncoder(words), TextEncoder(llama.tokenizer, llama)):
        with pytest.raises(InputError, match=r"half a character \(a lone surrogate U\+D83D at place 3\)"):
            encode("w4 \ud83d")


@pytest.mark.usefixtures("unchecked")
def test_refuses_what_is_no_text():
    encode = TextEncoder(zoo.tokenizer())
    for bad in (None, 5, ["w4"], torch.zeros(2)):
        with pytest.raises(InputError, match=f"is {type(bad).__name__}.*give a string"):
            encode(bad)
    with pytest.raises(InputError, match="prepend_bos is 'no'"):
        TextEncoder(zoo.tokenizer(), None, "no")
