"""The card of one head, and the cards of a model."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tl_nla.errors import InputError, unknown
from tl_nla.model.files import local_folder
from tl_nla.paths import user_path
from tl_nla.reports.heads.kinds import THRESHOLDS
from tl_nla.reports.heads.sums import Attention
from tl_nla.sharing import About
from tl_nla.whole_file import write_json, write_text

NONE = "none of these"
SCHEMA, FILE = 1, "head_cards.json"
SORTS = ("layer", "kind", "skip_kl", "direct", "fve", *THRESHOLDS)
"""What cards can be sorted by."""


@dataclass(frozen=True)
class Words:
    """A head's writes in words.

    Attributes:
        always: words of the mean write, promoted and suppressed.
        usual: share of the writes' squared size that is the mean write.
        often: words of what single writes have beside it, with the share of writes; ``−`` before suppressed ones.
        fve: of a linear reader of a write's words on held-out documents; the baseline is the head's own mean write.
        fve_shuffled: the same with the words of other writes of the head.
        heldout: writes that these are over.
        fve_oracle: of an oracle's explanations, on fewer writes.
        oracle_rows: how many.
        ov: copying by the weights, see :func:`tl_nla.reports.heads.ov_circuit.ov_scores`.
        meaning: what the oracle's words mean to a blind reader, with its interval
            (:attr:`tl_nla.oracle.words.WordOracle.meaning`); ``None`` where no oracle says it.
    """

    always: tuple[tuple[str, ...], tuple[str, ...]]
    usual: float
    often: tuple[tuple[str, float], ...]
    fve: float | None
    fve_shuffled: float | None
    heldout: int
    fve_oracle: float | None = None
    oracle_rows: int = 0
    ov: float | None = None
    meaning: tuple[float, float, float] | None = None

    @property
    def verdict(self) -> str | None:
        """``"meaning"`` where a blind reader tells more from the words than from permuted ones, else ``"code"``.

        ``None`` where nobody measured it.
        """
        return None if self.meaning is None else "meaning" if self.meaning[1] > 0 else "code"


@dataclass(frozen=True)
class Matters:
    """What a head does to the next token, over the positions that were tried.

    Attributes:
        skip_kl: mean KL divergence (nats) when it is left out at one position; ``None`` where the model permits none.
        largest: the largest.
        where: the text up to that position, with the next token.
        change: mean change of the next token's log-probability when it is left out: negative where it helps.
        direct: mean of what it writes into the next token's log-probability by itself.
        direct_size: mean absolute value of that.
        positions: how many.
    """

    skip_kl: float | None = None
    largest: float | None = None
    where: tuple[str, str] | None = None
    change: float | None = None
    direct: float | None = None
    direct_size: float | None = None
    positions: int = 0


@dataclass(frozen=True)
class Example:
    """A write in its context.

    Attributes:
        before: the text before the position.
        token: the token there.
        sources: the tokens read most, how far back each is, and its attention.
        up: words for what the write promotes beside the usual.
        down: for what it suppresses.
    """

    before: str
    token: str
    sources: tuple[tuple[str, int, float], ...]
    up: tuple[str, ...]
    down: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """What one head does.

    Attributes:
        layer: its layer.
        head: its number.
        kinds: of ``THRESHOLDS``, see :mod:`tl_nla.reports.heads.kinds`; empty for none of them.
        scores: what they were decided by, ``None`` where a score could not be had.
        attention: where it looks.
        reads: tokens that it reads more than their frequency, with their share.
        words: what it writes.
        matters: when it matters.
        examples: its strongest writes in their context.
    """

    layer: int
    head: int
    kinds: tuple[str, ...]
    scores: Mapping[str, float | None]
    attention: Attention
    reads: tuple[tuple[str, float], ...]
    words: Words
    matters: Matters
    examples: tuple[Example, ...]

    @property
    def name(self) -> str:
        """Such as ``L3.H7``."""
        return f"L{self.layer}.H{self.head}"

    @property
    def kind(self) -> str:
        """The first of its kinds, or that it is none of them."""
        return self.kinds[0] if self.kinds else NONE

    def value(self, name: str) -> float | None:
        """A number that cards are sorted by."""
        found = {"layer": float(self.layer), "skip_kl": self.matters.skip_kl, "direct": self.matters.direct_size,
                 "fve": self.words.fve}  # fmt: skip
        return found[name] if name in found else self.scores.get(name)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Card":
        """From what JSON holds."""
        words, matters = dict(values["words"]), dict(values["matters"])
        words |= {"always": tuple(map(tuple, words["always"])), "often": tuple(map(tuple, words["often"]))}
        if words.get("meaning") is not None:
            words["meaning"] = tuple(words["meaning"])
        if matters.get("where") is not None:
            matters["where"] = tuple(matters["where"])
        attention = {**values["attention"], "offsets": tuple(values["attention"]["offsets"])}
        examples = tuple(
            Example(one["before"], one["token"], tuple(map(tuple, one["sources"])), tuple(one["up"]),
                    tuple(one["down"])) for one in values["examples"]
        )  # fmt: skip
        return cls(
            values["layer"], values["head"], tuple(values["kinds"]), dict(values["scores"]), Attention(**attention),
            tuple(map(tuple, values["reads"])), Words(**words), Matters(**matters), examples,
        )  # fmt: skip


@dataclass(frozen=True)
class HeadCards:
    """The cards of a model.

    Attributes:
        model: its name.
        cards: by layer and head.
        facts: how many documents, tokens, held-out documents; settings and thresholds.
        notes: what could not be told, and why.
        seconds: how long it took, parts from a cache not counted.
        versions: of the libraries.
    """

    model: str
    cards: tuple[Card, ...]
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cards)

    def __getitem__(self, name: str) -> Card:
        """A card by its name, such as ``L3.H7``."""
        known = {card.name: card for card in self.cards}
        if name not in known:
            raise unknown("head", name, known)
        return known[name]

    def _repr_html_(self) -> str:
        from tl_nla.notebook import table_html
        from tl_nla.reports.heads.text import COLUMNS, cells

        return table_html(COLUMNS, [cells(card) for card in self.cards], f"{self.model}: {len(self)} heads")

    def sorted(self, by: str = "layer") -> list[Card]:
        """The cards, the largest value first; by layer from the first on, by kind in the order of the kinds.

        Raises:
            InputError: for what cards cannot be sorted by.
        """
        if by not in SORTS:
            raise unknown("order of cards", by, SORTS)
        if by == "layer":
            return list(self.cards)
        if by == "kind":
            order = [*THRESHOLDS, NONE]
            return sorted(self.cards, key=lambda card: order.index(card.kind))
        return sorted(self.cards, key=lambda card: -(value if (value := card.value(by)) is not None else -1e30))

    def of_kind(self, kind: str) -> list[Card]:
        """The cards of a kind."""
        if kind not in THRESHOLDS:
            raise unknown("kind of head", kind, THRESHOLDS)
        return [card for card in self.cards if kind in card.kinds]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return {"schema": SCHEMA, **asdict(self)}

    def to_json(self, path: str | Path) -> None:
        """Write everything as JSON, whole or not at all."""
        write_json(self.to_dict(), path)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the cards into a folder as :meth:`from_pretrained` reads them."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.to_json(folder / FILE)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "HeadCards":
        """Load shared cards.

        Args:
            name: local folder or hub id.

        Raises:
            InputError: when they cannot be had, or the file is none of cards.

        Example:
            >>> cards = HeadCards.from_pretrained("me/gpt2-head-cards")
        """
        return cls.from_json(local_folder(name) / FILE)

    def about(self) -> About:
        """What a card of the hub says of them (:func:`tl_nla.sharing.push_to_hub`)."""
        what = f"Cards of {len(self)} attention heads of `{self.model}`: what each head does over a corpus."
        load = ('from tl_nla.reports import HeadCards\n\ncards = HeadCards.from_pretrained("{repo}")\n'
                "print(cards.cards[0].name, cards.cards[0].kind)")  # fmt: skip
        made = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return About(what, load, self.model, f"{made or 'versions not noted'}.", "head-cards")

    @classmethod
    def from_json(cls, path: str | Path) -> "HeadCards":
        """Read cards back.

        Raises:
            InputError: when the file is none of cards.
        """
        try:
            values = json.loads(user_path(path).read_text(encoding="utf-8"))
            if values.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            values |= {"cards": tuple(map(Card.from_dict, values["cards"])), "notes": tuple(values["notes"])}
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{str(path)!r} holds no head cards: {error}") from error

    def to_html(self, path: str | Path) -> None:
        """Write one page that needs nothing else: a table that sorts by a click, each card to be unfolded."""
        from tl_nla.reports.heads.html import page

        write_text(page(self), path)
