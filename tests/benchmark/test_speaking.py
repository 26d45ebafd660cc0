import pytest
import torch

from tests.nla import checkpoints
from tl_nla import load_tiny
from tl_nla.benchmark.real_size import added_up, compared
from tl_nla.benchmark.real_work import WorkSizes
from tl_nla.benchmark.speaking import random_states, speaking_cases, states_of_texts
from tl_nla.data.documents import load_documents
from tl_nla.metrics import fve
from tl_nla.nla import NLA, InjectionConfig

SIZES = WorkSizes(piece=2, new_tokens=4)


def test_words_are_those_of_transformers():
    model, tokenizer = checkpoints.source_model("qwen2"), checkpoints.byte_tokenizer()
    nla = NLA.create(model, tokenizer, 1, InjectionConfig("constant", 5.0), checkpoints.AV_TEMPLATE)
    cases = list(speaking_cases(nla, random_states(nla, 3), SIZES, read_back=False))
    assert [case.name for case in cases] == ["states 1 to 2 put into words", "states 3 to 3 put into words"]
    for case in cases:
        ours, theirs = case.ours(), case.theirs()
        assert case.same(ours, theirs)
        assert not case.same(ours, [row[:-1] for row in theirs])
    assert "fve" not in added_up([compared(case, 1) for case in cases])[0]


def test_states_of_texts_are_read_back():
    tiny = load_tiny()
    acts = states_of_texts(tiny.model, tiny.tokenizer, tiny.nla, load_documents("world", 2), 5)
    assert acts.shape == (5, tiny.nla.d_model)
    (told,) = added_up([compared(case, 1) for case in speaking_cases(tiny.nla, acts, WorkSizes(piece=3), True)])
    texts = tiny.nla.verbalize(acts, max_new_tokens=60)
    assert told["fve"] == pytest.approx(float(fve(tiny.nla.reconstruct(texts), acts, tiny.nla.mean)), abs=1e-5)
    assert told["explanations_per_s"] == pytest.approx(5 / told["ours_cpu_s"])
    assert torch.isfinite(acts).all()
