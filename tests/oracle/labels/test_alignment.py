import pytest
import torch

from docs.studies.tiny.tokenizer import build_tokenizer
from tests import zoo
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.data import Document
from tl_nla.oracle.capture import CaptureConfig, capture_writes
from tl_nla.oracle.labels.alignment import ALIGNED, ALIGNMENTS, alignment
from tl_nla.oracle.questions import QUESTIONS, SHORT_WORDINGS, make_answer, parse_answer

SITES = ["blocks.1.attn.head.2", "blocks.0.mlp", "blocks.2"]


def test_levels_are_those_of_the_cosine():
    before, write = vectors(200)
    write = write + 0.2 * before * torch.randn(200, 1, generator=torch.Generator().manual_seed(1))
    level = alignment(write, before)
    for row in range(200):
        cosine = float(write[row] @ before[row] / write[row].norm() / before[row].norm())
        assert level[row] == (2 if cosine > ALIGNED else 0 if cosine < -ALIGNED else 1)
    assert len(level.unique()) == 3
    assert torch.equal(alignment(-write, before), 2 - level)
    assert torch.equal(alignment(1e-3 * write, 1e3 * before), level)


def test_what_is_zero_has_no_direction():
    before, write = vectors(3)
    assert alignment(0 * write, before).tolist() == alignment(write, 0 * before).tolist() == [-1] * 3


def test_captured_writes_have_the_answer(llama, tokenizer):
    text = " ".join(f"w{number}" for number in zoo.tokens(1, 20, seed=0)[0].tolist())
    assert "alignment" not in capture_writes(llama, tokenizer, [Document("d", text)], SITES[:1]).answers[0]
    found = capture_writes(llama, tokenizer, [Document("d", text)], SITES, CaptureConfig(levels=("alignment",)))
    levels = alignment(found.write, found.before).tolist()
    assert [answers["alignment"].tokens for answers in found.answers] == [(ALIGNMENTS[level],) for level in levels]
    assert len(set(levels)) > 1
    assert found.text(0, "alignment") == ALIGNMENTS[levels[0]]


@pytest.mark.parametrize("words", [(), *((word,) for word in ALIGNMENTS)])
def test_answers_are_read_back(words):
    answer = make_answer("alignment", words)
    assert parse_answer("alignment", answer.text) == answer


def test_other_words_are_no_answer():
    assert parse_answer("alignment", "red along").tokens == ()


def test_an_oracle_is_asked_and_taught():
    oracle, (before, write) = make_oracle(), vectors(3)
    answers = oracle.ask("alignment", write, before=before, max_new_tokens=4)
    assert [answer.question for answer in answers] == ["alignment"] * 3
    assert oracle.verbalizer.loss(before, write, ["alignment"] * 3, list(ALIGNMENTS)).isfinite()


def test_the_small_verbalizer_is_asked_with_one_token_of_its_own():
    tokenizer = build_tokenizer()
    ids = [tokenizer.encode(SHORT_WORDINGS[question], add_special_tokens=False) for question in QUESTIONS]
    assert [len(asked) for asked in ids] == [1] * len(QUESTIONS)
    assert len({asked[0] for asked in ids}) == len(QUESTIONS)
