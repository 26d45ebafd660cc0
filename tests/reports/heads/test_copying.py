import pytest
import torch

from tests import zoo
from tl_nla.oracle.labels import Lens
from tl_nla.reports.heads.copying import FEWEST, copying_score
from tl_nla.reports.heads.rows import Rows
from tl_nla.reports.heads.texts import Texts

ROWS, LENGTH = 200, 30


@pytest.fixture(scope="module")
def lens(get_model):
    return Lens.of(get_model("bridge", "gpt2"))


def made(lens, seed=0):
    """Random texts, what a head reads in each, and a direction that promotes each token."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, zoo.VOCAB, (ROWS, LENGTH), generator=generator)
    source = torch.randint(1, LENGTH - 2, (ROWS,), generator=generator)
    rows = Rows(torch.arange(ROWS), torch.full((ROWS,), LENGTH - 1), torch.zeros(ROWS, dtype=torch.bool),
                torch.zeros(ROWS, 1, 2), source[:, None, None], torch.full((ROWS, 1, 1), 0.5))  # fmt: skip
    texts = Texts(tuple(tuple(row) for row in ids.tolist()), (False,) * ROWS, zoo.tokenizer())
    promotes = torch.linalg.pinv(lens.weight.float().T * lens.gain)  # column t raises the logit of token t
    return texts, rows, promotes.T, ids, source, generator


def test_what_is_read_and_raised_is_copied(lens):
    texts, rows, promotes, ids, source, _ = made(lens)
    read = ids[torch.arange(ROWS), source]
    whole = torch.eye(zoo.D_MODEL)
    assert copying_score(lens, texts, rows, 0, (promotes[read], whole))["copying"] > 0.95
    assert copying_score(lens, texts, rows, 0, (-promotes[read], whole))["copying"] < 0.05
    other = ids[torch.arange(ROWS), source.flip(0)]
    assert copying_score(lens, texts, rows, 0, (promotes[other], whole))["copying"] == pytest.approx(0.5, abs=0.12)


def test_a_token_that_is_always_promoted_is_not_copied(lens):
    texts, rows, promotes, ids, source, generator = made(lens)
    ids[torch.arange(ROWS), source] = 9
    texts = Texts(tuple(tuple(row) for row in ids.tolist()), texts.heldout, texts.tokenizer)
    writes = 5 * promotes[9] + torch.randn(ROWS, zoo.D_MODEL, generator=generator)
    found = copying_score(lens, texts, rows, 0, (writes, torch.eye(zoo.D_MODEL)))
    assert found["copying"] == pytest.approx(0.5, abs=0.1)


def test_a_head_that_reads_next_to_nothing_has_no_score(lens):
    texts, rows, promotes, ids, _, _ = made(lens)
    rows.share[: ROWS - FEWEST + 1] = 0.05
    found = copying_score(lens, texts, rows, 0, (promotes[ids[:, 0]], torch.eye(zoo.D_MODEL)))
    assert found == {"copying": None, "copied_over": FEWEST - 1}
