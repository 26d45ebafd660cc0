"""Planted facts: told early in the text, needed now, and asked of a reader who has the words only."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.benchmark.verbalizers.candidates import OPTIONS
from tl_nla.benchmark.verbalizers.readers.base import BlindReader, picked
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.subject import Subject, predictions
from tl_nla.benchmark.verbalizers.tasks.base import Task
from tl_nla.benchmark.verbalizers.words import Say
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.model.text import TextEncoder

_ASKED, _FEWEST, _BATCH = 8, 10, 32
_NAMES = "Martha Peter Julia Simon Laura Victor Helen Oliver Alice Robert Emma Daniel".split()
_FACTS = {
    "{name}'s car is": "red blue green black white yellow silver brown orange purple",
    "{name} comes from": "France Spain Italy Germany China Japan Brazil Egypt Russia Canada",
    "{name} works as a": "doctor teacher lawyer farmer nurse pilot writer painter baker driver",
    "{name}'s favourite animal is the": "dog cat horse lion bear fox wolf rabbit elephant tiger",
    "{name} plays the": "piano guitar violin flute drums trumpet harp cello organ banjo",
}


@dataclass(frozen=True)
class PlantedFact:
    """A text in which a fact was told, up to where it is needed.

    Attributes:
        document: the cluster.
        text: ends right before the answer.
        answer: what comes next, with its space.
        options: ten answers of the same kind, this one among them.
    """

    document: int
    text: str
    answer: str
    options: tuple[str, ...]


def english_facts(documents: Sequence[Document], count: int, seed: int) -> list[PlantedFact]:
    """Facts put into ordinary English: told behind the first words of a text, asked for behind about a hundred more."""
    facts = []
    for number in range(count):
        rng = random.Random(f"{seed}/planted/{number}")
        index = number % len(documents)
        words = documents[index].text.split()[:110]
        form = rng.choice(list(_FACTS))
        stem, options = form.format(name=rng.choice(_NAMES)), _FACTS[form].split()
        answer = rng.choice(options)
        early, late = " ".join(words[:20]), " ".join(words[20:])
        text = f"{early} ... By the way, {stem} {answer}. {late} ... As I said before, {stem}"
        facts.append(PlantedFact(index, text, f" {answer}", tuple(f" {one}" for one in options)))
    return facts


def planted_task(subject: Subject, facts: Sequence[PlantedFact], reader: BlindReader) -> tuple[Task, str]:
    """Facts that the model itself gets right; the reader chooses among ten answers.

    Returns:
        The task, and a sentence on how many facts the model knew.

    Raises:
        InputError: when the model knows too few for a score.
    """
    tokenizer, encode = subject.tokenizer, TextEncoder(subject.tokenizer, subject.target.model)
    context = int(subject.target.model.cfg.n_ctx)
    past = [encode(fact.text).ids for fact in facts]
    options = [[_first(tokenizer, option) for option in fact.options] for fact in facts]
    fits = [len(ids) < context and len(set(own)) == len(own) == OPTIONS
            for ids, own in zip(past, options, strict=True)]  # fmt: skip
    rows = [row for row, good in enumerate(fits) if good]
    logprobs = predictions(subject.target.model, [past[row] for row in rows]) if rows else torch.zeros(0, 1)
    right = [facts[row].options.index(facts[row].answer) for row in rows]
    knows = [int(own[options[row]].argmax()) == place for row, own, place in zip(rows, logprobs, right, strict=True)]
    known = [row for row, good in zip(rows, knows, strict=True) if good][: subject.sizes.planted]
    if len(known) < _FEWEST:
        raise InputError(f"the model itself answers {len(known)} of {len(rows)} planted facts; too few for a score")
    document = torch.tensor([facts[row].document for row in known])
    chosen = [past[row] for row in known]
    asked = Rows("planted", _states(subject, chosen), chosen, document)
    choices = [[[token] for token in options[row]] for row in known]
    places = torch.tensor([facts[row].options.index(facts[row].answer) for row in known])
    task = _task(asked, choices, places, reader)
    return task, f"the model itself answers {sum(knows)} of {len(rows)} planted facts; {len(known)} of those are asked"


def _task(rows: Rows, choices: list[list[list[int]]], right: Int[Tensor, " n"], reader: BlindReader) -> Task:
    def score(say: Say) -> Float[Tensor, " n"]:
        return picked(reader.scores(say(rows), choices, [past[-_ASKED:] for past in rows.past]), right)

    return Task(
        "planted_facts", "Which of ten answers was told early in the text?", score, rows.document, 1 / OPTIONS,
        ("planted",),
    )  # fmt: skip


def _first(tokenizer: Any, option: str) -> int:
    return int(tokenizer.encode(option, add_special_tokens=False)[0])


def _states(subject: Subject, texts: list[list[int]]) -> Float[Tensor, "n d_model"]:
    """The states of the last tokens."""
    found: list[Tensor] = [torch.empty(0)] * len(texts)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        width = max(len(texts[row]) for row in part)
        tokens = torch.tensor([texts[row] + texts[row][-1:] * (width - len(texts[row])) for row in part])
        last = torch.zeros(tokens.shape, dtype=torch.bool)
        for place, row in enumerate(part):
            last[place, len(texts[row]) - 1] = True
        device = next(subject.target.model.parameters()).device
        states = read(subject.target.model, tokens.to(device), [subject.site], last.to(device))[subject.site]
        for place, row in enumerate(part):
            found[row] = states[place].float().cpu()
    return torch.stack(found)
