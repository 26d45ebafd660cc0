"""Draws of a corpus share no document."""

import pytest

from docs.studies.drawn import drawn_documents
from docs.studies.lines import write_lines
from tl_nla.data.documents import shuffle_documents
from tl_nla.errors import InputError


@pytest.fixture
def corpus(tmp_path):
    """Twelve pieces of seven documents; the first one has six of them."""
    rows = [{"kind": "tales", "document": f"d{max(0, number - 5)}", "text": f"text {number}"} for number in range(12)]
    write_lines(tmp_path / "held_out.jsonl", rows)
    return tmp_path / "held_out.jsonl"


def test_draws_share_no_document(corpus):
    draws = [drawn_documents(corpus, 2, seed) for seed in range(3)]
    names = [{one.notes["document"] for one in draw} for draw in draws]
    assert all(len(draw) == 2 for draw in draws)
    assert len(set.union(*names)) == sum(map(len, names))
    everything = drawn_documents(corpus, 100)
    assert len(everything) == 12
    assert everything == shuffle_documents(everything)
    assert draws[0] == everything[:2]


def test_a_corpus_ends(corpus):
    with pytest.raises(InputError, match=r"documents for \d of 5 pieces"):
        drawn_documents(corpus, 5, 2)
    with pytest.raises(InputError, match="seed"):
        drawn_documents(corpus, 3, -1)
