"""Tasks about writes take words for what they say, in whatever style they are said."""

import random

import torch

from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.tasks.writes import skip_task
from tl_nla.benchmark.verbalizers.writes import WriteMaterial, WriteSubject
from tl_nla.model.targets import Target
from tl_nla.oracle import LabelledWrites
from tl_nla.oracle.labels.strength import STEPS
from tl_nla.oracle.questions import Answer
from tl_nla.oracle.texts import Label, label_text

NAMES = [f"name{number}" for number in range(200)]


def material(name: str, count: int, seed: int) -> WriteMaterial:
    """Writes whose effect follows from their strength, and labels that name what they promote at random."""
    rng, numbers = random.Random(seed), torch.arange(count)
    steps = [rng.randrange(1, len(STEPS)) for _ in range(count)]
    labels = [Label(tuple(rng.sample(NAMES, 4)), tuple(rng.sample(NAMES, 4)), None, step) for step in steps]
    answers = [{"skip": Answer("skip", "", size=step // 2)} for step in steps]
    place, zeros = torch.zeros(count, dtype=torch.long), torch.zeros(count, 4)
    labelled = LabelledWrites(zeros, zeros, labels, answers, ("blocks.0.mlp",), place, numbers // 10, place)
    gold = [label_text(label) for label in labels]
    return WriteMaterial(
        Rows(name, zeros, [[1]] * count, numbers // 10, zeros, ("blocks.0.mlp",) * count), labelled, gold
    )


def test_a_number_word_of_another_clause_is_no_strength():
    parts = [material("train", 400, 0), material("calibration", 100, 1), material("test", 100, 2)]
    task = skip_task(WriteSubject(Target("made up", None, None), *parts, 0))
    rng, gold = random.Random(3), {part.rows.name: part.gold for part in parts}

    def said(rows, style):
        return [f"{text}; deviation {style()}" for text in gold[rows.name]]

    def share(style):
        kept = {part.rows.name: said(part.rows, style) for part in parts[1:]}
        return float(task.score(lambda rows, most=None: kept[rows.name]).mean())

    plain = float(task.score(lambda rows, most=None: gold[rows.name]).mean())
    assert plain > 0.8
    assert abs(share(lambda: rng.choice(("one", "two", "three", "four", "five"))) - share(lambda: "one")) < 0.05
    assert share(lambda: rng.choice(("one", "two", "three", "four", "five"))) > plain - 0.05
