"""Prompts of suite ``steering``: stories cut before a word that a fact told long before decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.metrics.probe import Probe, fit_probe
from tl_nla.model.reading import read
from tl_nla.steering import SteeringVector, mean_difference
from tl_nla.storyworld.corpus import TRAINING_SEED, held_out_stories, story_ids
from tl_nla.storyworld.generator import write_story
from tl_nla.storyworld.lexicon import COLOURS, FEELINGS, PLACES

ATTRIBUTES = {"colour": COLOURS, "feeling": FEELINGS, "where": PLACES}
MIN_DISTANCE = 10
PROBED = ("told", "told_and_after", "last")
"""Places whose states are probed: the told word itself, the token behind it, the prompt's last token."""


@dataclass(frozen=True)
class Case:
    """One prompt whose next word shall become another.

    Attributes:
        story: number of its story.
        attribute: kind of the fact.
        ids: tokens of the prompt.
        answer: the word that the story decides.
        target: the word that it shall become.
        told: positions of the tokens of ``answer`` in the prompt.
    """

    story: int
    attribute: str
    ids: list[int]
    answer: str
    target: str
    told: tuple[int, ...]


@torch.no_grad()
def find_cases(model: Any, tokenizer: Any, count: int) -> list[Case]:
    """Held-out prompts that the model completes with the word the story decides."""
    wanted = {attribute: -(-count // len(ATTRIBUTES)) for attribute in ATTRIBUTES}
    cases: list[Case] = []
    for number, story in enumerate(held_out_stories(400)):
        if not any(wanted.values()):
            break
        ids = story_ids(tokenizer, story)
        guesses: Tensor | None = None
        for recall in story.recalls:
            if not wanted.get(recall.claim) or recall.word - recall.seen < MIN_DISTANCE:
                continue
            guesses = model(torch.tensor([ids]))[0].argmax(-1) if guesses is None else guesses
            answer = ids[recall.word + 1]
            if int(guesses[recall.word]) != answer:
                continue
            others = [word for word in ATTRIBUTES[recall.claim] if f" {word}" not in story.text]
            if others:
                prompt = ids[: recall.word + 1]
                told = tuple(place for place, token in enumerate(prompt) if token == answer)
                target = others[number % len(others)]
                cases.append(Case(number, recall.claim, prompt, recall.answer, target, told))
                wanted[recall.claim] -= 1
    return cases


def partners(cases: Sequence[Case]) -> list[int]:
    """For each case another one of the same attribute, of another story where there is one."""
    found = []
    for number, case in enumerate(cases):
        same = [other for other, one in enumerate(cases) if one.attribute == case.attribute and other != number]
        later = [other for other in same if other > number] + [other for other in same if other < number]
        elsewhere = [other for other in later if cases[other].story != case.story]
        found.append((elsewhere or later or [number])[0])
    return found


@dataclass(frozen=True)
class Training:
    """States of training stories at the places of facts: for mean differences and probes.

    Attributes:
        point: hook point of the states.
        states: attribute and place (one of ``PROBED``) -> the word and the state.
    """

    point: str
    states: dict[tuple[str, str], list[tuple[str, Tensor]]]

    @classmethod
    def read(cls, model: Any, tokenizer: Any, point: str, stories: int) -> "Training":
        """Read the states of the first training stories."""
        states: dict[tuple[str, str], list[tuple[str, Tensor]]] = {
            (attribute, place): [] for attribute in ATTRIBUTES for place in PROBED
        }
        for index in range(stories):
            story = write_story(TRAINING_SEED, index)
            recalls = [recall for recall in story.recalls if recall.claim in ATTRIBUTES]
            if recalls:
                found = read(model, torch.tensor([story_ids(tokenizer, story)]), [point])[point]
                for recall in recalls:
                    places = (recall.seen + 1, recall.seen + 2, recall.word)  # a token of the text's start comes first
                    for place, position in zip(PROBED, places, strict=True):
                        states[recall.claim, place].append((recall.answer, found[position]))
        return cls(point, states)

    def contrast(self, case: Case) -> SteeringVector | None:
        """Mean difference of states before the case's target and before other words; ``None`` without examples."""
        known = self.states[case.attribute, "last"]
        wanted = [state for word, state in known if word == case.target]
        others = [state for word, state in known if word != case.target]
        return mean_difference(torch.stack(wanted), torch.stack(others), self.point) if wanted and others else None

    def probes(self) -> dict[tuple[str, str], Probe]:
        """A linear probe of each attribute at each place."""
        fitted = {}
        for key, known in self.states.items():
            if len({word for word, _ in known}) > 1:
                words = [word for word, _ in known]
                fitted[key] = fit_probe(torch.stack([state for _, state in known]), words, decay=1e-3)
        return fitted


def last_states(model: Any, cases: Sequence[Case], point: str) -> Float[Tensor, "n d_model"]:
    """State of each prompt's last token."""
    return torch.cat([read(model, torch.tensor([case.ids]), [point], -1)[point] for case in cases])


Contrast = Callable[[Case], SteeringVector | None]
