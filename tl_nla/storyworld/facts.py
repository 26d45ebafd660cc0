"""What is true in a story at one moment: the ground truth every claim is checked against."""

from dataclasses import dataclass, field


@dataclass
class Facts:
    """The facts told so far.

    Attributes:
        at: person -> place.
        feels: person -> feeling.
        holder: object -> the person who has it.
        inside: object -> the container it was put in.
        colour: object -> colour.
        told: ``(relation, key)`` -> index of the word that told the fact last.
        person: the person named last, or ``None``.
        object: the object named last, or ``None``.
    """

    at: dict[str, str] = field(default_factory=dict)
    feels: dict[str, str] = field(default_factory=dict)
    holder: dict[str, str] = field(default_factory=dict)
    inside: dict[str, str] = field(default_factory=dict)
    colour: dict[str, str] = field(default_factory=dict)
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    person: str | None = None
    object: str | None = None

    def copy(self) -> "Facts":
        """An independent copy."""
        return Facts(
            dict(self.at), dict(self.feels), dict(self.holder), dict(self.inside), dict(self.colour),
            dict(self.told), self.person, self.object,
        )  # fmt: skip

    def held_by(self, person: str) -> list[str]:
        """Objects that ``person`` has, in the order in which they were received last."""
        mine = [thing for thing, holder in self.holder.items() if holder == person]
        return sorted(mine, key=lambda thing: self.told.get(("holds", thing), -1))

    def value(self, fact: str, values: dict[str, str]) -> str | None:
        """The current value of ``fact``, such as ``"at A place"``, under the slot ``values``; ``None`` if unknown.

        For ``holds`` the value is the holder of the object.
        """
        relation, key, _ = fact.split()
        return self._table(relation).get(values[key])

    def tell(self, fact: str, values: dict[str, str], word_index: int) -> None:
        """Make ``fact`` true. Something put into a container has no holder, and the reverse."""
        relation, key, value = fact.split()
        subject = values[key]
        self._table(relation)[subject] = values[value]
        if relation == "holds":
            self.inside.pop(subject, None)
        if relation == "inside":
            self.holder.pop(subject, None)
        self.told[(relation, subject)] = word_index

    def _table(self, relation: str) -> dict[str, str]:
        return {
            "at": self.at, "feels": self.feels, "holds": self.holder, "inside": self.inside, "colour": self.colour,
        }[relation]  # fmt: skip
