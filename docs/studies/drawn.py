"""Pieces of text of a built corpus, drawn by a seed so that draws share no document."""

from itertools import islice
from pathlib import Path

from tl_nla.amounts import check_count
from tl_nla.data import Document
from tl_nla.data.documents import shuffle_documents
from tl_nla.data.lines import json_rows
from tl_nla.errors import InputError


def drawn_documents(path: Path, count: int, seed: int = 0) -> list[Document]:
    """The pieces of one draw.

    All pieces stand in one order. A seed takes the first ones of documents from which no smaller seed took a piece.

    Args:
        path: JSON lines of ``make corpus``.
        count: pieces of a draw; seed 0 takes what there is where there are fewer.
        seed: of the draw, 0 or more.

    Raises:
        InputError: when the corpus has not enough documents for this seed.
    """
    check_count("seed", seed, 0)
    rows = [Document(f"{number}", row["text"], {name: row[name] for name in ("kind", "document")})
            for number, (_, row) in enumerate(json_rows(path))]  # fmt: skip
    order, taken, own = shuffle_documents(rows), set[str](), list[Document]()
    for _ in range(seed + 1):
        own = list(islice((one for one in order if one.notes["document"] not in taken), count))
        taken |= {str(one.notes["document"]) for one in own}
    if seed and len(own) < count:
        raise InputError(f"seed is {seed}; {path} has documents for {len(own)} of {count} pieces after the smaller "
                         "seeds; take a smaller seed or fewer pieces")  # fmt: skip
    return own
