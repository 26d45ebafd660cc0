import pytest
import torch

from tests import zoo
from tl_nla.attribution import skip_effects
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.oracle import capture_words
from tl_nla.oracle.capture import CaptureConfig, capture_writes
from tl_nla.oracle.labels import Lens, Vocabulary, head_sources, write_effects
from tl_nla.oracle.questions import parse_answer
from tl_nla.oracle.texts import parse_label

SITES = ["blocks.1.attn.head.2", "blocks.1.attn", "blocks.0.mlp", "blocks.2"]


def documents(count=5):
    texts = [" ".join(f"w{i}" for i in zoo.tokens(1, 10 + 5 * n, seed=n)[0].tolist()) for n in range(count)]
    return [Document(f"d/{n}", text) for n, text in enumerate(texts)]


def ids_of(document):
    return torch.tensor([[1] + [int(word[1:]) for word in document.text.split()]])


def test_rows_are_those_of_single_documents(model, tokenizer):
    docs = documents()
    found = capture_writes(model, tokenizer, docs, SITES, CaptureConfig(positions_per_document=3, batch_size=2))
    assert len(found) == 5 * 3 * len(SITES)
    vocabulary, lens = Vocabulary.of(tokenizer, zoo.VOCAB), Lens.of(model)
    for row in range(0, len(found), 7):
        site, place = found.sites[found.site[row]], int(found.position[row])
        tokens = ids_of(docs[found.document[row]])
        reading = read(model, tokens, [site], [place])
        torch.testing.assert_close(found.write[row : row + 1], reading[site], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.before[row : row + 1], reading.before(site), rtol=1e-3, atol=1e-4)
        told = write_effects(lens, reading[site], reading.before(site), vocabulary)
        assert list(found.labels[row].promoted) == vocabulary.words(told.promoted)[0]
        assert found.answers[row]["suppresses"].tokens == tuple(vocabulary.words(told.suppressed)[0])


def test_sources_and_skips_of_a_head(llama, tokenizer):
    docs = documents()
    found = capture_writes(llama, tokenizer, docs, SITES[:1])
    for row in range(0, len(found), 3):
        tokens, place = ids_of(docs[found.document[row]]), int(found.position[row])
        shares = head_sources(llama, tokens)
        columns, weights = shares.distant[1, 2, 0, place].tolist(), shares.distant_weight[1, 2, 0, place].tolist()
        pairs = zip(columns, weights, strict=True)
        words = [f"w{tokens[0, column]}" for column, share in pairs if share >= 0.04]
        told = found.answers[row]["sources"]
        assert told.tokens == tuple(dict.fromkeys(words))
        longer = head_sources(llama, tokens, top_k=6)
        pairs = zip(
            longer.distant[1, 2, 0, place].tolist(), longer.distant_weight[1, 2, 0, place].tolist(), strict=True
        )
        listed = dict.fromkeys(f"w{tokens[0, column]}" for column, share in pairs if share >= 0.01)
        weaker = [word for word in listed if word not in told.tokens][: 3 - len(told.tokens)]
        assert told.weaker == tuple(weaker)
        assert parse_answer("sources", told.text).tokens == (*told.tokens, *weaker)
        assert set(found.labels[row].sources) <= set(found.answers[row]["sources"].tokens) | set(
            found.answers[row]["sources"].local
        )
        effects = skip_effects(llama, tokens, SITES[:1])
        assert found.answers[row]["skip"].flips == bool(effects.flip[0, 0, place])
        top = int(effects.skipped_top[0, 0, place])
        named = () if top in tokenizer.all_special_ids else (tokenizer.decode([top]),)
    assert found.answers[row]["skip"].tokens == named


def test_strong_sources_stand_first(llama, tokenizer, monkeypatch):
    docs, limit = documents(), 0.05  # attention of random weights is spread too thin for the real limit
    monkeypatch.setattr(capture_words, "STRONG_SHARE", limit)
    found = capture_writes(llama, tokenizer, docs, SITES[:1], CaptureConfig(skips=False))
    counts = []
    for row in range(len(found)):
        tokens, place = ids_of(docs[found.document[row]]), int(found.position[row])
        shares = head_sources(llama, tokens)
        columns, weights = shares.distant[1, 2, 0, place].tolist(), shares.distant_weight[1, 2, 0, place].tolist()
        strong = {f"w{tokens[0, column]}" for column, share in zip(columns, weights, strict=True) if share >= limit}
        told = found.answers[row]["sources"]
        assert set(told.tokens[: told.strong]) == strong
        counts.append((told.strong, len(told.tokens)))
    assert any(0 < strong < named for strong, named in counts)


def test_strength_is_told_from_a_reference(llama, tokenizer):
    found = capture_writes(llama, tokenizer, documents(), SITES, CaptureConfig(skips=False))
    assert "skip" not in found.answers[0]
    told = found.with_strength(found.reference())
    assert set(found.reference().quantiles) == set(SITES)
    assert {label.strength for label in told.labels} - {None}
    assert parse_label(told.text(0)) == told.labels[0]
    some = told.select(torch.tensor([3, 1]))
    assert some.labels == [told.labels[3], told.labels[1]]
    assert torch.equal(some.write, told.write[[3, 1]])


def test_refusals(llama, tokenizer):
    with pytest.raises(InputError, match="one or more writes"):
        capture_writes(llama, tokenizer, documents(), ["blocks.0.hook_resid_pre"])
    with pytest.raises(InputError, match="two tokens"):
        capture_writes(llama, tokenizer, [Document("d", "")], SITES)
    with pytest.raises(InputError, match="top_k is 0"):
        CaptureConfig(top_k=0)
