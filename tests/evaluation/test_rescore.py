"""Answers asked again for rows that were stored in another order."""

import pytest
import torch

from tests import zoo
from tests.oracle.tiny import make_oracle
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.evaluation.oracle_rows import OracleRows
from tl_nla.evaluation.oracle_score import named_sources, named_words
from tl_nla.evaluation.rescore import rescore_lists
from tl_nla.oracle import CaptureConfig, capture_writes
from tl_nla.oracle.labels import Vocabulary

SITES = ["blocks.0.attn.head.1", "blocks.1.mlp"]


def test_scores_are_those_of_each_rows_own_write(llama, tokenizer):
    sizes = (30, 22, 40)
    documents = [Document(f"d/{n}", " ".join(f"w{i}" for i in zoo.tokens(1, size, seed=n)[0].tolist()))
                 for n, size in enumerate(sizes)]  # fmt: skip
    vocabulary = Vocabulary.of(tokenizer, zoo.VOCAB)
    held = capture_writes(llama, tokenizer, documents, SITES, CaptureConfig(2, 5, skips=False, seed=3), vocabulary)
    held = held.select(torch.randperm(len(held), generator=torch.Generator().manual_seed(0)))
    rows = OracleRows(3, held.sites, (), torch.zeros(3, 4), held.site, held.document, held.position, held.write[:, 0])
    rows.counts = {
        "probe/auc/skip_flip": torch.ones(len(held), 2),
        "explanation/recall_at_4/promotes": torch.ones(12, 2),
    }
    oracle = make_oracle()
    rescore_lists(rows, oracle, llama, tokenizer, documents, vocabulary, 5)
    for name, table in {**named_words(oracle, held), **named_sources(oracle, held)}.items():
        torch.testing.assert_close(rows.counts[name], table, equal_nan=True)
    assert torch.equal(rows.counts["probe/auc/skip_flip"], torch.ones(12, 2))
    said = rows.counts["explanation/recall_at_4/promotes"]
    assert said[:, 1].tolist() == [4.0] * 12
    asked = held.site == 0
    assert torch.equal(rows.counts["explanation/precision_at_3/sources_distant"][:, 1].isfinite(), asked)
    with pytest.raises(InputError, match=r"of 12 rows are not in these documents"):
        rescore_lists(rows, oracle, llama, tokenizer, documents[1:], vocabulary, 5)
