"""The private split: pieces of one document stay together, texts are cut, documents are counted."""

import pytest
import torch

from tests import zoo
from tl_nla.benchmark.verbalizers.subject import Sizes, clusters, cut_texts, private_split
from tl_nla.data import Document
from tl_nla.errors import InputError

SIZES = Sizes(train=30, calibration=4, test=50)
BOOKS = [
    Document(f"book/{book}/{piece}", f"{book} {piece}", {"document": book}) for book in range(20) for piece in range(8)
]
NOTES = [Document(f"note/{number}", str(number)) for number in range(80)]


def test_pieces_of_one_document_are_never_in_two_parts():
    train, calibration, test = private_split([*BOOKS, *NOTES], SIZES, 0)
    assert [len(train), len(calibration), len(test)] == [30, 4, 50]
    names = [{one.notes.get("document", one.id) for one in part} for part in (train, calibration, test)]
    assert not names[0] & names[1]
    assert not names[2] & (names[0] | names[1])
    assert max(clusters(test, torch.arange(50)).bincount()) <= 2
    assert private_split([*BOOKS, *NOTES], SIZES, 1)[2] != test
    with pytest.raises(InputError, match="texts of 20 documents"):
        private_split(BOOKS, SIZES, 0)


def test_rows_of_pieces_are_counted_as_their_document():
    rows = torch.tensor([0, 1, 8, 9, 17])
    assert clusters(BOOKS, rows).tolist() == [0, 0, 1, 1, 2]
    assert clusters(NOTES, torch.tensor([2, 2, 5])).tolist() == [2, 2, 5]


def test_long_texts_are_cut_and_keep_their_notes():
    document = Document("a", "w5 w6 w7 w8", {"document": "whole"})
    assert [one.text for one in cut_texts([document], zoo.tokenizer(), 3)] == ["w5 w6 w7"]
    [whole] = cut_texts([document], zoo.tokenizer(), 4)
    assert (whole.text, whole.notes) == (document.text, document.notes)
    with pytest.raises(InputError, match="longest"):
        Sizes(longest=40)
