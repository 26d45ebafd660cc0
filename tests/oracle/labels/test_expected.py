import pytest
import torch

from tests import tokenizers, zoo
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.oracle.labels import Vocabulary, expected_vocabulary
from tl_nla.oracle.labels.expected import mean_prediction

TEXTS = [" ".join(f"w{i}" for i in zoo.tokens(1, 5 + n, seed=n)[0].tolist()) for n in range(3)]
DOCUMENTS = [Document(f"d/{n}", text) for n, text in enumerate(TEXTS)]


def test_the_mean_is_that_of_single_runs(llama):
    tokenizer = zoo.tokenizer()
    rows = []
    for document in DOCUMENTS:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(document.text, add_special_tokens=False)]
        with torch.no_grad():
            rows += list(llama(torch.tensor([ids]))[0].softmax(-1))
    mean = mean_prediction(llama, tokenizer, [*DOCUMENTS, Document("empty", "")][:3])
    torch.testing.assert_close(mean.float(), torch.stack(rows).mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("family", "shape"), [("qwen2", "qwen"), ("llama", "smollm"), ("llama", "adds_begin")])
@pytest.mark.parametrize("prepend_bos", [None, True, False])
def test_the_begin_token_is_that_of_every_other_text(family, shape, prepend_bos):
    model, tokenizer = tokenizers.bridge(family, shape)
    text = "Hello there, you."
    ids = model.to_tokens(text, prepend_bos=prepend_bos)
    with torch.no_grad():
        expected = model(ids)[0].float().softmax(-1).mean(0)
    found = mean_prediction(model, tokenizer, [Document("d", text), Document("empty", "")], prepend_bos)
    torch.testing.assert_close(found.float(), expected, atol=1e-6, rtol=1e-5)


def test_a_rendered_chat_gets_no_second_begin_token():
    model, tokenizer = tokenizers.bridge("llama", "adds_begin")
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi."}], tokenize=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0].float().softmax(-1).mean(0)
    found = mean_prediction(model, tokenizer, [Document("d", text)])
    torch.testing.assert_close(found.float(), expected, atol=1e-6, rtol=1e-5)


def test_only_expected_tokens_may_be_named(llama):
    tokenizer = zoo.tokenizer()
    mean = mean_prediction(llama, tokenizer, DOCUMENTS)
    everything = Vocabulary.of(tokenizer, len(mean))
    share = float(mean.median() * len(mean))
    named = expected_vocabulary(llama, tokenizer, DOCUMENTS, share)
    assert torch.equal(named.allowed, everything.allowed & (mean >= share / len(mean)))
    assert 0 < int(named.allowed.sum()) < int(everything.allowed.sum())
    assert named.texts == everything.texts
    assert torch.equal(expected_vocabulary(llama, tokenizer, DOCUMENTS, 0.0).allowed, everything.allowed)


def test_the_embedded_default_names_its_own_words_only():
    from tl_nla.model.targets import load_target
    from tl_nla.storyworld.documents import world_documents

    target = load_target("tiny")
    named = expected_vocabulary(target.model, target.tokenizer, world_documents(20, 0))
    words = {text for text, allowed in zip(named.texts, named.allowed.tolist(), strict=True) if allowed}
    assert {"Tom", "red", "harbor", "."} <= words
    assert not words & {"`", "%", "}", "$"}
    assert 150 < len(words) < 260


def test_bad_requests_are_refused(llama):
    with pytest.raises(InputError, match="share is -1"):
        expected_vocabulary(llama, zoo.tokenizer(), DOCUMENTS, -1.0)
    with pytest.raises(InputError, match="no document has a token"):
        expected_vocabulary(llama, zoo.tokenizer(), [], 0.5)
    with pytest.raises(InputError, match="no document has a token"):
        expected_vocabulary(llama, zoo.tokenizer(), [Document("empty", "")], 0.5)
