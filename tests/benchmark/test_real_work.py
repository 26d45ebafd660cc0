import pytest

from tests import zoo
from tl_nla.benchmark.real_size import compared
from tl_nla.benchmark.real_work import WorkSizes, capture_cases, hook_case, texts_of

SIZES = WorkSizes(documents=2, tokens=12, piece=2, new_tokens=4, prompt=6)


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
