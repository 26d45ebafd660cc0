"""Suite ``steering``: do edited words move the model, and what else do they move?"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.adapters import SteeringAdapter, VectorAdapter, attach
from tl_nla.adapters.base import Adapter
from tl_nla.errors import InputError
from tl_nla.evaluation.bootstrap import mean_interval, ratio_interval
from tl_nla.evaluation.results import Results, Row
from tl_nla.reading import read
from tl_nla.steering import append, compose, expect, judge_story, mean_difference, random_direction, substitute
from tl_nla.storyworld.corpus import TRAINING_SEED, story_ids
from tl_nla.storyworld.generator import Story, write_story
from tl_nla.storyworld.lexicon import COLOURS, FEELINGS, PLACES
from tl_nla.storyworld.recalls import held_out_stories

ATTRIBUTES = {"colour": COLOURS, "feeling": FEELINGS, "where": PLACES}
MIN_DISTANCE, NEW_TOKENS = 10, 16
DEFINITION = {
    "prompts": f"held-out stories cut before a word that a fact told at least {MIN_DISTANCE} tokens before decides and "
    "that the unsteered model gets right; the target is another word of the attribute that the story does not hold",
    "steered": "the state of the prompt's last token at blocks.2.hook_resid_post; generation goes on unsteered",
    "success": "the target is the first word generated, greedily",
    "validity": f"no sentence finished within {NEW_TOKENS} tokens is outside of the world's grammar",
    "facts_kept": "of the sentences behind the steered one that recall facts told before, the share that is right",
    "kl": "nats between the unsteered and the steered next-token distribution",
    "edit": "answer replaced by the target in the explanation, delta",
    "edit_delta": "the same, and the expected next word displaced, delta",
    "edit_replace": "as edit_delta, replace",
    "append": "'The next word is TARGET.' added to the explanation, delta",
    "round_trip": "replace without an edit",
    "caa": "mean difference of training states before the target and before other words of the attribute, at the norm "
    "of the arm edit_delta's shift",
    "random_direction": "a random direction of the same norm",
    "intervals": "95%, bootstrap over stories",
}


@dataclass(frozen=True)
class Case:
    """One prompt whose next word shall become another.

    Attributes:
        story: number of its story.
        attribute: kind of the fact.
        ids: tokens of the prompt.
        answer: the word that the story decides.
        target: the word that it shall become.
    """

    story: int
    attribute: str
    ids: list[int]
    answer: str
    target: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--prompts``."""
    parser.add_argument("--prompts", type=int, default=200, metavar="N", help="held-out prompts (default 200)")


def evaluate(model: str = "tiny", prompts: int = 200, training_stories: int = 300) -> Results:
    """Run every arm on the embedded default.

    Args:
        model: ``"tiny"``; the judges know the embedded world only.
        prompts: how many, about equally many an attribute.
        training_stories: stories that the arm ``caa`` takes its means from.

    Raises:
        InputError: for another model or fewer than three prompts.
    """
    if model != "tiny":
        raise InputError(f"--model {model!r}: the judges of suite 'steering' know the embedded world only")
    if prompts < len(ATTRIBUTES):
        raise InputError(f"--prompts is {prompts}; at least {len(ATTRIBUTES)} are needed, one an attribute")
    from tl_nla.storyworld.tiny import load_tiny

    started = time.perf_counter()
    tiny = load_tiny()
    cases = find_cases(tiny.model, tiny.tokenizer, prompts)
    vectors = contrast_vectors(tiny, training_stories)
    scores = [score_case(tiny, case, vectors) for case in cases]
    return Results("steering", "tiny", [0], DEFINITION, result_rows(cases, scores), time.perf_counter() - started)


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
            if int(guesses[recall.word]) != ids[recall.word + 1]:
                continue
            others = [word for word in ATTRIBUTES[recall.claim] if f" {word}" not in story.text]
            if others:
                cases.append(
                    Case(number, recall.claim, ids[: recall.word + 1], recall.answer, others[number % len(others)])
                )
                wanted[recall.claim] -= 1
    return cases


def contrast_vectors(tiny: Any, stories: int) -> Callable[[Case], Any]:
    """For a case the mean difference of training states before its target and before other words of its attribute."""
    point = f"blocks.{tiny.nla.layer}.hook_resid_post"
    states: dict[str, list[tuple[str, Tensor]]] = {attribute: [] for attribute in ATTRIBUTES}
    for index in range(stories):
        story: Story = write_story(TRAINING_SEED, index)
        ids = story_ids(tiny.tokenizer, story)
        places = [recall for recall in story.recalls if recall.claim in states]
        if places:
            found = read(tiny.model, torch.tensor([ids]), [point], [recall.word for recall in places])
            by_place = dict(zip(found.position.tolist(), found[point], strict=True))
            for recall in places:
                states[recall.claim].append((recall.answer, by_place[recall.word]))

    def vector(case: Case) -> Any:
        known = states[case.attribute]
        wanted = [state for word, state in known if word == case.target]
        others = [state for word, state in known if word != case.target]
        return mean_difference(torch.stack(wanted), torch.stack(others), point) if wanted and others else None

    return vector


def score_case(tiny: Any, case: Case, contrast: Callable[[Case], Any]) -> dict[str, dict[str, float]]:
    """Scores of every arm on one prompt: ``success``, ``validity``, ``recalls``, ``kept``, ``kl``."""
    point = f"blocks.{tiny.nla.layer}.hook_resid_post"
    rename = substitute({case.answer: case.target})
    displace = compose(rename, expect(case.target))
    last = {"positions": -1, "generated": False}

    def words(rewrite: Callable[[str], str], mode: str = "delta") -> Adapter:
        return SteeringAdapter(tiny.nla, point, rewrite, mode, **last)

    arms: dict[str, Adapter | None] = {
        "unsteered": None,
        "round_trip": words(lambda text: text, "replace"),
        "append": words(append(f"The next word is {case.target}.")),
        "edit": words(rename),
        "edit_delta": words(displace),
        "edit_replace": words(displace, "replace"),
    }
    clean = _next(tiny.model, case.ids, None)
    scores = {arm: _score(tiny, case, adapter, clean) for arm, adapter in arms.items()}
    edited = arms["edit_delta"]
    vector = contrast(case)
    if vector is not None and edited is not None and edited.results():
        size = edited.results()[-1].size * tiny.model.cfg.d_model**0.5 / float(vector.vector.norm())
        noise = random_direction(vector, torch.Generator().manual_seed(case.story))
        for arm, direction in (("caa", vector), ("random_direction", noise)):
            scores[arm] = _score(tiny, case, VectorAdapter(direction, size, **last), clean)
    return scores


@torch.no_grad()
def _next(model: Any, ids: Sequence[int], adapter: Adapter | None) -> Float[Tensor, " vocab"]:
    hooks = [] if adapter is None else adapter.hooks(model)
    return model.run_with_hooks(torch.tensor([list(ids)]), fwd_hooks=hooks)[0, -1].float().log_softmax(-1)


def _score(tiny: Any, case: Case, adapter: Adapter | None, clean: Tensor) -> dict[str, float]:
    steered = _next(tiny.model, case.ids, adapter)
    tokens = torch.tensor([case.ids])
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "verbose": False}
    if adapter is None:
        grown = tiny.model.generate(tokens, **settings)
    else:
        with attach(tiny.model, adapter):
            grown = tiny.model.generate(tokens, **settings)
    said = tiny.tokenizer.decode(grown[0, len(case.ids) :], skip_special_tokens=True)
    prompt = tiny.tokenizer.decode(case.ids, skip_special_tokens=True)
    judged = judge_story(prompt, said, case.target)
    return {
        "success": float(judged.first),
        "validity": float(judged.valid),
        "recalls": float(judged.recalls),
        "kept": float(judged.kept),
        "kl": float((clean.exp() * (clean - steered)).sum().clamp_min(0)),
    }


def result_rows(cases: Sequence[Case], scores: Sequence[dict[str, dict[str, float]]]) -> list[Row]:
    """Rows of the results contract, all attributes together and one by one for success."""
    rows: list[Row] = []
    for arm in dict.fromkeys(arm for score in scores for arm in score):
        having = [(case, score[arm]) for case, score in zip(cases, scores, strict=True) if arm in score]
        stories = torch.tensor([case.story for case, _ in having])
        for metric in ("success", "validity", "kl"):
            values = torch.tensor([score[metric] for _, score in having], dtype=torch.float64)
            rows.append(Row.of(arm, metric, mean_interval(values, stories, generator=_generator())))
        recalls, kept = (
            torch.tensor([s[name] for _, s in having], dtype=torch.float64) for name in ("recalls", "kept")
        )
        if recalls.sum() > 0:
            rows.append(Row.of(arm, "facts_kept", ratio_interval(kept, recalls, stories, generator=_generator())))
        for attribute in ATTRIBUTES:
            mine = torch.tensor([case.attribute == attribute for case, _ in having])
            values = torch.tensor([score["success"] for _, score in having], dtype=torch.float64)[mine]
            if len(values):
                found = mean_interval(values, stories[mine], generator=_generator())
                rows.append(Row.of(arm, f"success/{attribute}", found))
    return rows


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
