"""The study of SmolLM2's words on a random model: what must hold by construction does, and controls fail."""

from types import SimpleNamespace

import pytest
import torch

from docs.studies.lines import read_lines
from docs.studies.smollm2_words import larger
from docs.studies.smollm2_words.curve import head_errors
from docs.studies.smollm2_words.figure import draw
from docs.studies.smollm2_words.refits import drawn_rows
from docs.studies.smollm2_words.run import ROWS
from docs.studies.smollm2_words.sides import LENGTHS, Sides, by_words, one_head_a_layer, scored, square
from docs.studies.smollm2_words.table import tables
from docs.studies.smollm2_words.unseen import _carried, _made, shared_shape
from tests import zoo
from tl_nla.metrics import normalise
from tl_nla.oracle.words import FitConfig, WordTables, fit_code
from tl_nla.oracle.words.tables import frequent_words

SITES = ["blocks.1.attn.head.0", "blocks.1.attn.head.1"]


class Held(dict):
    """Writes of as many documents."""

    rows = SimpleNamespace(document=torch.arange(60))


@pytest.fixture(scope="module")
def sides():
    """Two heads of a random model; their writes lie in their spaces, beside a mean of their own."""
    model = zoo.bridge(zoo.hf_model("llama"))
    words = frequent_words(zoo.tokenizer(), torch.ones(zoo.VOCAB, dtype=torch.long))
    whole = WordTables.of(model, words, SITES)
    generator = torch.Generator().manual_seed(0)

    def writes(count):
        found = {}
        for number, site in enumerate(SITES):
            basis = whole.basis[site]
            inside = torch.randn(count, basis.shape[1], generator=generator)
            inside[:, number] += 2
            found[site] = torch.randn(count, len(basis), generator=generator), inside @ basis.T
        return found

    train, held = writes(200), writes(60)
    code, _ = fit_code(whole, train, FitConfig(words=16, rows=200))
    return SimpleNamespace(oracle=SimpleNamespace(code=code), train=train, held=held)


def test_more_words_tell_more_and_those_of_other_rows_nothing(sides):
    none = {words: torch.zeros(60, 200) for words in LENGTHS}
    writes = sides.train[SITES[0]][1], sides.held[SITES[0]][1]
    found = head_errors(sides.oracle.code, SITES[0], writes, none)
    strict = found["0 strict"].sum()
    fve = {name: 1 - float(error.sum() / strict) for name, error in found.items()}
    for arm in ("oracle", "pursuit", "topk"):
        assert fve[f"8 {arm}, shuffled"] < 0.2 < fve[f"8 {arm}"]
    assert fve["4 oracle"] < fve["16 oracle"]
    assert abs(fve["8 context"]) < 0.1
    # What the curve calls the oracle is its own reading at norm √d.
    code, write = sides.oracle.code, sides.held[SITES[0]][1]
    word, level = code.choose(0, write, 8)
    torch.testing.assert_close(found["8 oracle"], square(normalise(write), normalise(code.rebuild(0, word, level))))


def test_a_head_that_no_fit_saw_is_read_worse_than_its_own_fit(sides):
    code, write = sides.oracle.code, sides.held[SITES[0]][1]
    shape = shared_shape(code, SITES[0])
    torch.testing.assert_close(shape[:, 0], code.shape[SITES[1]].mean(1))
    own = by_words(code, 0, write)[8].sum()
    unknown = by_words(_made(code, SITES[0], torch.zeros_like(code.mean[0]), shape), 0, write)[8].sum()
    assert own < unknown < square(normalise(write), torch.zeros_like(write)).sum()
    carried = _carried(code, SITES[0])
    assert torch.equal(carried.shape[SITES[0]], code.shape[SITES[1]])
    basis = code.tables.basis[SITES[0]]
    torch.testing.assert_close(carried.mean[0], basis @ (basis.T @ code.mean[1]))


def test_a_smaller_choice_of_words_is_scored_beside_the_shipped_one_and_kept(sides, tmp_path, monkeypatch):
    monkeypatch.setattr(larger, "FEWER", 4)
    known = Sides.__new__(Sides)
    vars(known).update({**vars(sides), "held": Held(sides.held), "keep": tmp_path})
    found = list(larger.rows(known, SITES[:1]))
    shipped = len(sides.oracle.code.text)
    fve = {(row["size"], row["words"]): row["fve"] for row in found if "size" in row}
    assert set(fve) == {(size, words) for size in (4, shipped) for words in LENGTHS}
    assert fve[shipped, 8] > fve[4, 8]
    monkeypatch.setattr(larger, "fit_code", None)  # an interrupted run takes what it left
    assert list(larger.rows(known, SITES[:1])) == found
    gained = f"{fve[shipped, 16] - fve[4, 16]:.2f}"
    told = tables(found)["larger"]
    assert f"| block | {shipped:,} | {fve[shipped, 4]:.2f} [" in told
    assert f" | {gained} [{gained}, {gained}] | {gained} [" in told, "one component: all together gain what it gains"
    assert told.rstrip().endswith(f"] | {int(fve[shipped, 16] >= 0.5)} of 1 |")


def test_positions_are_drawn_by_document():
    document = torch.arange(10).repeat_interleave(6)
    rows = drawn_rows(document, 4, 3, seed=1)
    assert len(set(rows.tolist())) == 12
    assert torch.bincount(document[rows]).tolist().count(3) == 4
    assert not torch.equal(rows, drawn_rows(document, 4, 3, seed=2))
    assert torch.equal(rows, drawn_rows(document, 4, 3, seed=1))
    assert len({site.split(".")[1] for site in one_head_a_layer(30, 9)}) == 30


def test_scores_of_several_components():
    base = torch.ones(8, dtype=torch.float64)
    found = scored([base * 0.2, base * 0.6], [base, base], torch.arange(8) // 2)
    assert found == {"fve": 0.6, "low": 0.6, "high": 0.6}


def test_the_stored_rows_make_every_table_and_the_figure(tmp_path):
    rows = read_lines(ROWS)
    assert all(text.count("\n") > 2 for text in tables(rows).values())
    draw(rows, str(tmp_path / "curve.svg"))
    assert "chosen jointly" in (tmp_path / "curve.svg").read_text()
