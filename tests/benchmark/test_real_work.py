import pytest

from tests import zoo
from tests.nla import checkpoints
from tl_nla.benchmark.real_size import compared
from tl_nla.benchmark.real_work import WorkSizes, capture_cases, hook_case, speaking_cases, texts_of
from tl_nla.nla import NLA, InjectionConfig

SIZES = WorkSizes(documents=2, tokens=12, states=3, piece=2, new_tokens=4, prompt=6)


def test_documents_are_the_same_every_time_and_as_long_as_asked(tokenizer):
    texts = texts_of(tokenizer, zoo.VOCAB, SIZES)
    assert texts == texts_of(tokenizer, zoo.VOCAB, SIZES)
    assert [len(tokenizer(document.text)["input_ids"]) for document in texts] == [12, 12]


@pytest.mark.parametrize("make", [lambda model, tokenizer: capture_cases(model, tokenizer, SIZES),
                                  lambda model, tokenizer: [hook_case(model, SIZES)]])  # fmt: skip
def test_captures_and_hooks_are_timed_beside_their_peers(llama, tokenizer, make):
    for case in make(llama, tokenizer):
        row = compared(case, 1)
        assert row["ratio"] == pytest.approx(row["ours_cpu_s"] / row["peer_cpu_s"])
        assert row["median_ratio"] == pytest.approx(row["ratio"])


def test_words_are_those_of_transformers():
    model, tokenizer = checkpoints.source_model("qwen2"), checkpoints.byte_tokenizer()
    nla = NLA.create(model, tokenizer, 1, InjectionConfig("constant", 5.0), checkpoints.AV_TEMPLATE)
    cases = list(speaking_cases(nla, SIZES))
    assert [case.name for case in cases] == ["states 1 to 2 put into words", "states 3 to 3 put into words"]
    for case in cases:
        ours, theirs = case.ours(), case.theirs()
        assert case.same(ours, theirs)
        assert not case.same(ours, [row[:-1] for row in theirs])
