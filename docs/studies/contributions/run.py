"""Suite ``contributions``: do the words of all writes give the output back, and does the report find what decided?"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from docs.studies.contributions.planted_facts import FactScore, score_story
from docs.studies.contributions.recoveries import load_recoveries, recovery_rows
from tl_nla.benchmark.bootstrap import mean_interval
from tl_nla.benchmark.results import Results, Row
from tl_nla.cli.options import whole_number
from tl_nla.errors import InputError

STORED = Path(__file__).parent / "rows" / "contributions_rows.safetensors"
STORIES, MIN_DISTANCE = 60, 20
DEFINITION = {
    "kl_recovered": "1 - sum KL(clean || rebuilt) / sum KL(clean || mean writes): the last residual state is rebuilt "
    "from the words of all heads and MLPs, embedding and biases exact; a row with a layer has the writes of the layers "
    "up to it from words and those of later layers at their training mean",
    "kl_recovered/constant": "the same with the mean prediction as the zero: 1 - sum KL(clean || rebuilt) / sum "
    "KL(clean || mean prediction), all layers from words",
    "top1_agreement": "share of positions whose likeliest next token is that of the clean model",
    "gold": "label texts computed from the model; for planted facts: a report whose words are such labels",
    "cat": "who writes, and the last tokens of the raw text, as many as the label has; read by a reconstructor trained "
    "in the same way",
    "shuffled": "texts of a position of another document, read by the reconstructor of the right ones",
    "shuffled_writes": "the exact writes of that other position, no words: what shuffled texts give at best. It "
    "is above zero because a state of mean writes predicts worse than a state of another document",
    "constant": "words-only recovery: the mean prediction of the training positions, whatever is read",
    "planted facts": f"words of held-out stories decided by a fact told at least {MIN_DISTANCE} tokens before, where "
    "the model is right",
    "precision_at_3/skips": "share of the report's three strongest heads and MLPs that are among the three of an "
    "ablation with ordinary hooks, one component at a time at this position",
    "precision_at_3/direct": "the same for the three with the largest direct contribution",
    "precision_at_3/everywhere": "the three strongest skips at this position against ablation at all positions at once",
    "recall_at_3/fact_sources": "share of facts whose place is a stated source of one of the three",
    "changes_answer": "share of facts where leaving out the report's first component alone changes the answer",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this suite."""
    parser.add_argument(
        "--stories", type=whole_number(1), default=STORIES, help=f"stories with planted facts (default {STORIES})"
    )


def evaluate(model: str = "tiny", stories: int = STORIES) -> Results:
    """Run the suite on the embedded default.

    Planted facts are scored afresh; words-only recovery, whose readers take long to train, comes from stored rows where
    there are any.

    Raises:
        InputError: for another model, whose facts are not known.
    """
    from tl_nla.cli.contributions import find_oracle
    from tl_nla.data.progress import told
    from tl_nla.model.targets import TINY, load_target
    from tl_nla.storyworld.corpus import held_out_stories

    if model != TINY:
        raise InputError(f"--model {model!r}: suite 'contributions' knows the embedded world's facts only; use tiny")
    started = time.perf_counter()
    target = load_target(TINY)
    arms = {"gold": None, "explanation": find_oracle(TINY, None)}
    rows: list[Row] = []
    for arm, oracle in arms.items():
        if arm == "gold" or oracle is not None:
            told_of = told([[story] for story in held_out_stories(stories)], f"stories in words of {arm}")
            scores = [
                score
                for number, (story,) in enumerate(told_of)
                for score in score_story(target.model, target.tokenizer, story, number, MIN_DISTANCE, oracle)
            ]
            rows += fact_rows(scores, arm)
    stored = load_recoveries(STORED) if STORED.is_file() else []
    rows += recovery_rows(stored) if stored else []
    seeds = [part.seed for part in stored]
    definition = {**DEFINITION, "fresh": "planted facts", "stored": f"words-only recovery of seeds {seeds}"}
    return Results("contributions", model, seeds or [0], definition, rows, time.perf_counter() - started)


def fact_rows(scores: Sequence[FactScore], arm: str) -> list[Row]:
    """Rows of the planted facts.

    Raises:
        InputError: when no fact was scored.
    """
    if not scores:
        raise InputError("no planted fact is told early enough and right; score more stories")
    documents = torch.tensor([score.story for score in scores])
    columns: Mapping[str, list[float]] = {
        "precision_at_3/skips": [score.precision for score in scores],
        "precision_at_3/direct": [score.precision_direct for score in scores],
        "precision_at_3/everywhere": [score.precision_everywhere for score in scores],
        "recall_at_3/fact_sources": [float(score.words if arm == "explanation" else score.sources) for score in scores],
        "changes_answer": [float(score.changes_answer) for score in scores],
    }
    return [Row.of(arm, name, mean_interval(torch.tensor(values), documents, generator=_generator()))
            for name, values in columns.items()]  # fmt: skip


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
