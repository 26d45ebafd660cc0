"""Writes stories whose every fact is known: people, places, objects, colours, feelings, who holds what.

Facts are told early and needed late. Each story is a pure function of ``(seed, index)``; there are more than
10^9 of them, so none can be memorised.
"""

import random
from dataclasses import dataclass

from tl_nla.storyworld.facts import Facts
from tl_nla.storyworld.lexicon import COLOURS, NAMES, OBJECTS, PLACES, SLOTS
from tl_nla.storyworld.templates import BY_NAME, FILLER, QUESTION, RECALL, Template

_EVENTS = ("gave", "lost", "gave", "lost", "put", "walked", "now", "painted")
_HANDED = ("gave", "lost")


@dataclass(frozen=True)
class Recall:
    """A word that is decided by a fact told before.

    Attributes:
        word: index of the answer among the story's words.
        claim: type of the fact (``where``, ``what``, ``colour``, ``feeling``, ``who``, ``inside``).
        answer: the word itself.
        told: index of the word that told the fact last.
        seen: index of the last earlier word equal to the answer.
    """

    word: int
    claim: str
    answer: str
    told: int
    seen: int


@dataclass(frozen=True)
class Story:
    """A story, its words, and where in it a fact told before decides the next word."""

    text: str
    words: tuple[str, ...]
    recalls: tuple[Recall, ...]


class _Writer:
    """Builds one story and keeps the facts while doing so."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.facts = rng, Facts()
        self.words: list[str] = []
        self.recalls: list[Recall] = []
        self.told_by: dict[tuple[str, str], str] = {}

    def write(self, template: Template, values: dict[str, str]) -> None:
        for slot in template.slots():
            values.setdefault(slot, self.rng.choice(SLOTS[slot]))
        start = len(self.words)
        words = template.fill(values)
        if template.claim is not None:
            self._note_recall(template, values, start + len(words) - 2, words[-2])
        self.words += words
        for fact in template.facts if template.kind == "tell" else ():
            _, key, value = fact.split()
            places = {word[1:-1]: place for place, word in enumerate(template.words) if word.startswith("{")}
            self.facts.tell(fact, values, start + max(places[key], places[value]))
            self.told_by[(fact.split()[0], values[key])] = template.name

    def _note_recall(self, template: Template, values: dict[str, str], word: int, answer: str) -> None:
        relation, key, _ = template.facts[0].split()
        seen = max(place for place, earlier in enumerate(self.words) if earlier == answer)
        told = self.facts.told[(relation, values[key])]
        self.recalls.append(Recall(word, str(template.claim), answer, told, seen))

    def pick_recall(self, templates: tuple[Template, ...]) -> tuple[Template, dict[str, str]] | None:
        """A recall or question whose answer is known and unique, facts of every relation equally likely."""
        template = self.rng.choice(templates)
        relation, key, value = template.facts[0].split()
        table = {"at": self.facts.at, "feels": self.facts.feels, "colour": self.facts.colour,
                 "holds": self.facts.holder, "inside": self.facts.inside}[relation]  # fmt: skip
        options = dict(table)
        if template.claim == "what":
            options = {thing: who for thing, who in table.items() if len(self.facts.held_by(who)) == 1}
        if template.claim == "who":  # told with the object before its holder only
            options = {thing: who for thing, who in table.items() if self.told_by[("holds", thing)] in _HANDED}
        if not options:
            return None
        subject = self.rng.choice(sorted(options))
        return template, {key: subject, value: options[subject]}


def write_story(seed: int, index: int, questions: bool = True) -> Story:
    """Write one story.

    Args:
        seed: which stream of stories.
        index: which story of the stream.
        questions: whether questions and answers may follow the story.

    Returns:
        The story with its planted recalls; the same for the same arguments on every machine.
    """
    rng = random.Random(f"{seed}/{index}")
    writer = _Writer(rng)
    people = rng.sample(NAMES, rng.choices((1, 2, 3), (1, 4, 3))[0])
    _setup(writer, people)
    for _ in range(rng.randint(0, 3)):
        _event(writer, people)
    for _ in range(rng.randint(3, 6)):
        _recall(writer, RECALL)
        if rng.random() < 0.25:
            _event(writer, people)
    if questions and rng.random() < 0.6:
        for _ in range(rng.randint(2, 5)):
            _recall(writer, QUESTION)
    return Story(join_words(writer.words), tuple(writer.words), tuple(writer.recalls))


def _setup(writer: _Writer, people: list[str]) -> None:
    rng = writer.rng
    places, things = rng.sample(PLACES, len(people)), rng.sample(OBJECTS, len(people))
    colours = rng.sample(COLOURS, len(people))
    for number, person in enumerate(people):
        opening = ("opening_one", "opening_was", "opening_came") if number == 0 else ("join", "visit")
        writer.write(BY_NAME[rng.choice(opening)], {"A": person, "place": places[number]})
        rest = ["own", "feel"] if rng.random() < 0.5 else ["feel", "own"]
        for part in rest:
            if part == "own" and rng.random() < 0.85:
                name = rng.choice(("had", "found", "carried"))
                writer.write(BY_NAME[name], {"A": person, "object": things[number], "colour": colours[number]})
            elif part == "feel" and rng.random() < 0.85:
                writer.write(BY_NAME[rng.choice(("felt", "very"))], {"A": person})
        if rng.random() < 0.3:
            writer.write(rng.choice(FILLER), {})


def _event(writer: _Writer, people: list[str]) -> None:
    rng, facts = writer.rng, writer.facts
    name = rng.choice(_EVENTS)
    values = _event_values(name, rng, facts, people)
    if values is None:
        writer.write(rng.choice(FILLER), {})
    else:
        writer.write(BY_NAME[name], values)


def _event_values(name: str, rng: random.Random, facts: Facts, people: list[str]) -> dict[str, str] | None:
    if name in ("walked", "now"):
        return {"A": rng.choice(people)}
    held = sorted(facts.holder)
    if not held:
        return None
    thing = rng.choice(held)
    holder = facts.holder[thing]
    others = [person for person in people if person != holder]
    if name == "gave":
        return {"A": holder, "object": thing, "B": rng.choice(others)} if others else None
    if name == "lost":
        return {"A": rng.choice(others), "object": thing, "B": holder} if others else None
    return {"A": holder, "object": thing}


def _recall(writer: _Writer, templates: tuple[Template, ...]) -> None:
    for _ in range(6):
        picked = writer.pick_recall(templates)
        if picked is not None:
            writer.write(*picked)
            return


def join_words(words: list[str]) -> str:
    """Words to text: a space before every word but none before a punctuation mark."""
    text = "".join(word if word in (".", "?", "!", ",") else " " + word for word in words)
    return text.lstrip(" ")
