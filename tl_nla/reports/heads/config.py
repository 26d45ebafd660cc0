"""How much text head cards are made from, and what they say."""

from dataclasses import asdict, dataclass
from typing import Any

from tl_nla.amounts import check_count, check_number
from tl_nla.errors import InputError


@dataclass(frozen=True)
class HeadCardsConfig:
    """Settings of :func:`tl_nla.reports.head_cards`.

    Attributes:
        documents: how many are drawn from the texts, at random.
        length: tokens of each that are read, from its beginning.
        rows: positions drawn from each document, at which the writes of all heads are put into words.
        words: words that a write is put into.
        heldout: share of the documents on which words are scored; the others fit the reader. Texts with a note
            ``document`` are split by it, so that pieces of one book stay together.
        effects: documents on which heads are left out.
        positions: positions of each at which they are.
        examples: writes of each head that are shown in their context.
        layers: whose heads are told; all when ``None``.
        oracle_rows: held-out writes of each head that an oracle explains.
        vocabulary: ``"words"`` names whole words, ``"all"`` every printable token.
        seed: of everything drawn.

    Raises:
        InputError: for a number out of range, or an unknown vocabulary.
    """

    documents: int = 128
    length: int = 96
    rows: int = 8
    words: int = 8
    heldout: float = 0.3
    effects: int = 6
    positions: int = 4
    examples: int = 5
    layers: tuple[int, ...] | None = None
    oracle_rows: int = 8
    vocabulary: str = "words"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("documents", 2), ("length", 8), ("rows", 1), ("words", 1), ("effects", 0),
                            ("positions", 1), ("examples", 0), ("oracle_rows", 1), ("seed", 0)):  # fmt: skip
            check_count(name, getattr(self, name), least)
        if not 0 < check_number("heldout", self.heldout) < 1:
            raise InputError(f"heldout is {self.heldout}; allowed: a share between 0 and 1, such as 0.3")
        if self.vocabulary not in ("words", "all"):
            raise InputError(f"vocabulary is {self.vocabulary!r}; allowed: 'words' or 'all'")

    def kept(self) -> dict[str, Any]:
        """What the parts in a cache depend on."""
        return {name: value for name, value in asdict(self).items() if name != "oracle_rows"}
