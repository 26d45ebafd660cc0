"""Control tokens of every kind are known as such, and words of documents are not taken for them."""

import pytest

from docs.studies.tiny.tokenizer import MARKUP, SPECIAL, build_tokenizer
from tests import tokenizers
from tl_nla.errors import InputError
from tl_nla.model.control import TAG, control_ids, refuse_control, without_control


def test_special_added_and_unused_tokens_are_control_tokens():
    tokenizer = tokenizers.make("qwen")
    named = (*tokenizers.SPECIAL, *tokenizers.ADDED, *tokenizers.UNUSED)
    assert control_ids(tokenizer) == set(tokenizer.convert_tokens_to_ids(list(named)))
    assert tokenizer.convert_tokens_to_ids(tokenizers.MARKUP) not in control_ids(tokenizer)


def test_those_of_the_embedded_tokenizer():
    tokenizer = build_tokenizer()
    assert control_ids(tokenizer) == set(tokenizer.convert_tokens_to_ids([*SPECIAL, *MARKUP]))


@pytest.mark.parametrize(
    "name",
    "<|im_end|> <|start_header_id|> <start_of_turn> </s> <s> <pad> <eos> [INST] [/INST] [TOOL_CALLS] [AVAILABLE_TOOLS] "
    "[gMASK] <sop> <|turn> <turn|> <｜tool▁calls▁begin｜> <EOS_TOKEN> <fim_prefix> </tool_call> [PAD]".split(),
)
def test_looks_of_control_tokens(name):
    assert TAG.fullmatch(name)


@pytest.mark.parametrize("name", ["<", ">", "|", "<|", "|>", "<>", "<=>", "<|>", "[", "[]", "[0]", "[A]", "a<b", "<-"])
def test_signs_are_none(name):
    assert not TAG.search(name)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("user<|im_end|> said", "user said"),
        ("a <start_of_turn>b</s> [INST]c", "a b c"),
        ("</explanation>x<explanation>", "x"),
        ("<|im_<|x|>end|>", ""),
        ("List<int> x; if (a < b) <h1>[0]", "List<int> x; if (a < b) <h1>[0]"),
        ("<｜User｜>hello <unused17>", "hello "),
    ],
)
def test_texts_without_control_tokens(text, left):
    assert without_control(text) == left


def test_refused_by_line():
    tokenizer = tokenizers.make("qwen")
    control = control_ids(tokenizer)
    end, think = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<think>"])
    refuse_control(["a", "b"], [[1, 2], [3]], tokenizer, control)
    refuse_control(["a"], [[think, 5, end]], tokenizer, control, [think, end])
    with pytest.raises(InputError, match=r"line 2 \('b<\|im_end\|>c'\) holds the control token '<\|im_end\|>'"):
        refuse_control(["a", "b<|im_end|>c"], [[1], [2, end, 3]], tokenizer, control)
    with pytest.raises(InputError, match="line 1"):
        refuse_control(["a"], [[think, think, 5, end]], tokenizer, control, [think, end])
