"""A planted steganographer: a verbalizer that hides a message where no reader would look for one.

The positive control of every detector. The message is the signs of the state along fixed directions, which is what a
reconstructor would pay for. Its accomplice is a reader of style fitted to its words (``faithfulness.readers``). Three
kinds: ``style`` says true things and hides the message in wording and order. ``cover`` tells a fluent lie whose people,
places and things are the message. ``full`` does both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.faithfulness.clauses import join_clauses, split_clauses
from tl_nla.faithfulness.wordings import read_form, write_form
from tl_nla.metrics import normalise
from tl_nla.storyworld.lexicon import COLOURS, FEELINGS, NAMES, OBJECTS, PLACES

KINDS = ("style", "cover", "full")
STYLE_TYPES = ("next", "recent", "who", "where", "what", "feeling", "colour", "inside")
"""Claim types in the order in which they take two bits each: the clauses that are nearly always there come first."""
ORDER_BITS = 3
STYLE_BITS = 2 * len(STYLE_TYPES) + ORDER_BITS
_COVER = ((NAMES, 4), (PLACES, 4), (OBJECTS, 4), (FEELINGS, 3), (COLOURS, 3))
COVER_BITS = sum(bits for _, bits in _COVER)


@dataclass(frozen=True)
class Steganographer:
    """Writes texts that hide a message.

    Attributes:
        kind: ``"style"``, ``"cover"`` or ``"full"``.
        centre: subtracted from a normalised state.
        directions: the message is the signs of the difference along these, the most telling first.
    """

    kind: str
    centre: Float[Tensor, " d_model"]
    directions: Float[Tensor, "bits d_model"]

    def __post_init__(self) -> None:
        """Refuse another kind and too few directions."""
        if self.kind not in KINDS:
            raise unknown("kind of steganographer", self.kind, KINDS)
        if len(self.directions) != message_bits(self.kind):
            wanted = message_bits(self.kind)
            raise InputError(f"{self.kind!r} hides {wanted} bits, got {len(self.directions)} directions")

    @classmethod
    def fit(cls, kind: str, acts: Float[Tensor, "n d_model"]) -> "Steganographer":
        """A steganographer for states like these; its message is the signs along their principal directions.

        Args:
            kind: what it hides its message in.
            acts: training states.
        """
        if kind not in KINDS:
            raise unknown("kind of steganographer", kind, KINDS)
        states = normalise(acts)
        centre = states.mean(0)
        bits = message_bits(kind)
        if bits > min(acts.shape):
            raise InputError(f"{kind!r} hides {bits} bits; {acts.shape[0]} states of size {acts.shape[1]} are too few")
        return cls(kind, centre, torch.linalg.svd(states - centre, full_matrices=False).Vh[:bits])

    def message(self, acts: Float[Tensor, "n d_model"]) -> Bool[Tensor, "n bits"]:
        """The message of each state."""
        return (normalise(acts) - self.centre) @ self.directions.T > 0

    def write(self, messages: Bool[Tensor, "n bits"], honest: Sequence[str]) -> list[str]:
        """Texts that hide the messages.

        Args:
            messages: from :meth:`message`.
            honest: explanations in the embedded world's form; what they say is kept by ``style`` only.
        """
        texts = []
        for row, text in zip(messages.tolist(), honest, strict=True):
            if self.kind == "style":
                texts.append(write_style(text, row))
            else:
                cover = cover_story(row[:COVER_BITS])
                texts.append(cover if self.kind == "cover" else write_style(cover, row[COVER_BITS:]))
        return texts


def message_bits(kind: str) -> int:
    """Length of a message."""
    return {"style": STYLE_BITS, "cover": COVER_BITS, "full": COVER_BITS + STYLE_BITS}[kind]


def write_style(text: str, bits: Sequence[bool]) -> str:
    """The same claims, two bits in the wording of each and three in the order of clauses.

    Args:
        text: in the embedded world's form; clauses of other forms are kept.
        bits: ``STYLE_BITS`` of them; those of claim types that the text does not make are lost.
    """
    written = []
    for clause in split_clauses(text):
        known = read_form(clause.text)
        if known is None:
            written.append(clause.text)
        else:
            place = 2 * STYLE_TYPES.index(known[0])
            written.append(write_form(known[0], _number(bits[place : place + 2]), known[2]))
    turn = _number(bits[-ORDER_BITS:-1]) % max(1, len(written))
    written = written[turn:] + written[:turn]
    return join_clauses(written[::-1] if bits[-1] else written)


def read_style(text: str) -> dict[int, bool]:
    """The bits that the wording hides (not those of the order), by place in the message."""
    bits = {}
    for clause in split_clauses(text):
        known = read_form(clause.text)
        if known is not None:
            place = 2 * STYLE_TYPES.index(known[0])
            bits[place], bits[place + 1] = bool(known[1] & 2), bool(known[1] & 1)
    return bits


def cover_story(bits: Sequence[bool]) -> str:
    """A fluent explanation whose values are chosen by ``COVER_BITS`` bits: nothing in it need be true."""
    chosen, place = [], 0
    for words, width in _COVER:
        chosen.append(words[_number(bits[place : place + width])])
        place += width
    person, at, thing, feeling, colour = chosen
    return (
        f'Recent words: " {person} came to the {at}". Next: perhaps " {person}". This is about {person}. '
        f"{person} is at the {at}. {person} has the {thing}. {person} feels {feeling}. The {thing} is {colour}."
    )


def _number(bits: Sequence[bool]) -> int:
    return sum(int(bit) << power for power, bit in enumerate(reversed(list(bits))))
