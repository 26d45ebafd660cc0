"""Chat texts are full of control tokens; explanations, labels and targets made from them hold none."""

import pytest
import torch

from tests import tokenizers, zoo
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.model.control import control_ids
from tl_nla.model.reading import read
from tl_nla.model.text import TextEncoder
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.oracle import CaptureConfig, DiffOracle, capture_writes
from tl_nla.storyworld.explained import WorldCapture, explain_states

POINT = "blocks.1.hook_resid_post"
SITES = ["blocks.0.attn.head.1", "blocks.1.attn", "blocks.1.mlp", "blocks.2"]
TURNS = ("Hi.", "<think>so</think>Yes", "No <|reserved_special_token_1|>", "a<unused0>b", "<h1>T", "<my_tool>x")


def chats(tokenizer):
    """Short turns, so that control tokens are never far."""
    for number, turn in enumerate(TURNS):
        messages = [{"role": "user", "content": turn}, {"role": "assistant", "content": TURNS[-number]}]
        yield Document(f"chat/{number}", tokenizer.apply_chat_template(messages, tokenize=False))


def loud(model, tokenizer):
    """Make the model expect control tokens."""
    head = model.original_model.get_output_embeddings().weight
    with torch.no_grad():
        head[sorted(control_ids(tokenizer))] *= 20


@pytest.fixture(scope="module", params=[("qwen2", "qwen"), ("llama", "smollm"), ("llama", "adds_begin")], ids=str)
def chat(request):
    model, tokenizer = tokenizers.bridge(*request.param)
    loud(model, tokenizer)
    return model, tokenizer, list(chats(tokenizer))


def held(tokenizer, texts):
    control = control_ids(tokenizer)
    return [text for text in texts if control & set(tokenizer.encode(text, add_special_tokens=False))]


def source(tokenizer):
    return zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=1024)


def check_targets(ids, mask, end, control):
    """Every response ends with its end token and holds no control token before it."""
    for row, real in zip(ids, mask, strict=True):
        *inside, last = row[real].tolist()
        assert last == end
        assert not control & set(inside)


def test_explanations_hold_none(chat):
    model, tokenizer, documents = chat
    assert len(held(tokenizer, [document.text for document in documents])) == len(documents)
    states = explain_states(model, tokenizer, documents, POINT, None, 0)
    assert held(tokenizer, states.explanations) == held(tokenizer, states.contexts) == []
    assert not any("<|" in text or "think>" in text for text in states.explanations)
    assert any("<h1>" in text for text in states.explanations), "a word of the document, no control token"
    assert any("the end" in text for text in states.explanations), "the end token is told in words"
    nla = NLA.create(source(tokenizer), tokenizer, 1, InjectionConfig("constant", 1.0), injection_char=tokenizers.CHAR)
    ids, mask = nla.verbalizer.encode_responses(states.explanations)
    check_targets(ids, mask, nla.verbalizer.end_id, control_ids(tokenizer))


def test_states_are_those_of_the_ids_that_the_model_makes(chat):
    model, tokenizer, documents = chat
    plain = [*documents, Document("plain", "Hello there, you.")]
    states = explain_states(model, tokenizer, plain, POINT, None, 0)
    for number, document in enumerate(plain):
        ids = TextEncoder(tokenizer, model)(document.text).ids
        own = states.document == number
        assert states.position[own].tolist() == list(range(len(ids)))
        expected = read(model, torch.tensor([ids]), [POINT], "all")[POINT]
        torch.testing.assert_close(states.acts[own], expected, atol=1e-5, rtol=1e-5)


def test_the_switch(chat):
    model, tokenizer, _ = chat
    text = Document("plain", "Hello there, you.")
    lengths = [
        len(explain_states(model, tokenizer, [text], POINT, None, 0, WorldCapture(prepend_bos=given)))
        for given in (True, False)
    ]
    assert lengths[0] == lengths[1] + 1
    for given in (True, False):
        settings = CaptureConfig(1000, skips=False, prepend_bos=given)
        writes = capture_writes(model, tokenizer, [text], ["blocks.0.mlp"], settings)
        assert len(writes) == lengths[not given] - 1


def test_labels_and_answers_hold_none(chat):
    model, tokenizer, documents = chat
    writes = capture_writes(model, tokenizer, documents, SITES, CaptureConfig(6))
    said = [writes.text(row) for row in range(len(writes))]
    said += [answer.text for answers in writes.answers for answer in answers.values()]
    assert held(tokenizer, said) == []
    assert any(label.sources for label in writes.labels)
    oracle = DiffOracle.create(source(tokenizer), tokenizer, injection_char=tokenizers.CHAR)
    ids, mask = oracle.verbalizer.encode_responses(said)
    check_targets(ids, mask, oracle.verbalizer.end_id, control_ids(tokenizer))


@pytest.mark.parametrize("shape", ["qwen", "smollm", "gpt2", "adds_begin"])
@pytest.mark.parametrize("token", ["<|im_end|>", "<|endoftext|>", "<|im_start|>", "<think>", "<unused0>"])
def test_a_given_explanation_with_one_is_refused_by_its_line(shape, token):
    tokenizer = tokenizers.make(shape)
    nla = NLA.create(source(tokenizer), tokenizer, 1, InjectionConfig("constant", 1.0), injection_char=tokenizers.CHAR)
    oracle = DiffOracle.create(source(tokenizer), tokenizer, injection_char=tokenizers.CHAR)
    for part in (nla.verbalizer, oracle.verbalizer):
        with pytest.raises(InputError, match=r"line 3 \('so .*holds the control token"):
            part.encode_responses(["One.", "Two, a < b.", f"so {token} and on"])
    with pytest.raises(InputError, match=r"line 2 .* holds '</explanation>'"):
        nla.verbalizer.encode_responses(["One.", "so </explanation> and on"])


def test_tags_of_the_embedded_verbalizer_are_put_around_once():
    from tl_nla.storyworld.tiny import load_tiny

    verbalizer = load_tiny().nla.verbalizer
    ids, mask = verbalizer.encode_responses(["Tom is at the park.", ""])
    tokens = verbalizer.tokenizer.convert_ids_to_tokens(ids[0][mask[0]].tolist())
    assert (tokens[0], *tokens[-2:]) == ("<explanation>", "</explanation>", "<eos>")
    for tag in ("</explanation>", "<eos>", "<concept>", "<|user|>"):
        with pytest.raises(InputError, match="line 1"):
            verbalizer.encode_responses([f"Tom {tag} is"])
