import math

import pytest
import torch

from docs.studies.tiny.tokenizer import build_tokenizer
from tests.faithfulness.helpers import explained
from tl_nla.errors import InputError
from tl_nla.faithfulness.abstention import abstain, clause_confidences, withhold
from tl_nla.faithfulness.claims import score_claims
from tl_nla.nla import Generation
from tl_nla.nla.generation import Responses

TOKENIZER = build_tokenizer()


def generated(texts, doubts):
    """As if decoded with probability .9 everywhere but at the doubted words."""
    rows = [TOKENIZER.encode(f"<explanation>{text}</explanation>", add_special_tokens=False) for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
    logprobs = torch.full(ids.shape, math.log(0.9))
    for row, (word, probability) in enumerate(doubts):
        logprobs[row][ids[row] == TOKENIZER.encode(word, add_special_tokens=False)[0]] = math.log(probability)
    return Generation(texts, torch.ones(len(texts), dtype=torch.bool), Responses(ids, mask, logprobs, mask[:, 0]))


def test_the_doubted_clause_is_left_out():
    text = 'Recent words: " at the park". Next: surely ".". This is about Tom. Tom is at the farm. Tom feels sad.'
    clauses = clause_confidences(generated([text], [(" farm", 0.3)]), TOKENIZER)
    assert [c.confidence == pytest.approx(0.3) for c in clauses[0]] == [False, False, False, True, False]
    assert all(c.confidence == pytest.approx(0.9) for c in clauses[0] if c.kind != "where")
    assert abstain(clauses, 0.5) == [text.replace(" Tom is at the farm.", "")]
    assert abstain(clauses, 0.2) == [text]
    assert abstain(clauses, 0.95) == ['Recent words: " at the park". Next: surely ".".']
    assert abstain(clauses, 0.95, keep=()) == [""]


def test_nothing_is_lost_at_threshold_zero():
    texts = explained(4)[0]
    assert abstain(clause_confidences(generated(texts, []), TOKENIZER), 0.0) == texts


def test_threshold_is_a_probability():
    with pytest.raises(InputError, match="between 0 and 1"):
        abstain([], 2.0)


def test_unsure_names_become_questions_and_claim_nothing():
    texts, truths, _, _ = explained(6)
    text = 'Recent words: " at the park". Next: surely ".". This is about Tom. Tom is at the farm. Tom feels sad.'
    said = withhold(generated([text], [(" farm", 0.3)]), TOKENIZER, 0.5)
    assert said == [text.replace("farm", "Where")]
    everything = withhold(generated(texts, []), TOKENIZER, 1.0)
    assert {claim.claim.type for claim in score_claims(everything, truths)} <= {"recent", "next"}
    assert withhold(generated(texts, []), TOKENIZER, 0.5) == texts


def test_a_repeated_guess_stays_a_guess():
    text = "Tom is at the farm. The farm is red."
    case = generated([text], [])
    first = TOKENIZER.encode(" farm", add_special_tokens=False)[0]
    place = (case.ids[0] == first).nonzero()[0, 0]
    case.logprobs[0, place] = math.log(0.1)
    assert withhold(case, TOKENIZER, 0.5) == ["Tom is at the Where. The Where is red."]
