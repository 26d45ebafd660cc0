"""Suite ``steering``: do edited words move the model, and what else do they move?"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from docs.studies.steering.arms import NEW_TOKENS, SWEEP, SWEPT, named, score_arms, score_prompt_edit
from docs.studies.steering.cases import ATTRIBUTES, MIN_DISTANCE, Case, Training, find_cases, last_states
from docs.studies.steering.figure import draw
from docs.studies.steering.places import AFTER, STRONG, adapted_pairs, score_places
from docs.studies.steering.score import STORED_ROWS, SteeringRows, load_rows
from docs.studies.steering.score import save_rows as store
from tl_nla.benchmark.bootstrap import Interval, mean_interval, ratio_interval
from tl_nla.benchmark.figures import check_figure
from tl_nla.benchmark.results import Results, Row
from tl_nla.cli.options import output_file, whole_number
from tl_nla.errors import InputError
from tl_nla.paths import user_path, user_path_text

MATCHED = (0.95, 0.9)
DEFINITION = {
    "prompts": f"held-out stories cut before a word that a fact told at least {MIN_DISTANCE} tokens before decides and "
    "that the unsteered model gets right; the target is another word of the attribute that the story does not hold",
    "steered": "the state of the prompt's last token at blocks.2.hook_resid_post; generation goes on unsteered",
    "success": "the target is the first word generated, greedily",
    "validity": f"no sentence finished within {NEW_TOKENS} tokens is outside of the world's grammar",
    "facts_kept": "of the sentences behind the steered one that recall facts told before, the share that is right",
    "kl": "nats between the unsteered and the steered next-token distribution",
    "perplexity": "of what is said, under the unsteered model; geometric mean over prompts",
    "repetition, distance": "share of word triples said before; word edits from the unsteered text over its length",
    "edit": "answer replaced by the target in the explanation, delta",
    "edit_delta": "the same, and the expected next word displaced, delta",
    "edit_replace": "as edit_delta, replace",
    "facts_only": "answer replaced outside of quotes only: the expected next word stays; next_only: the opposite",
    "append": "'The next word is TARGET.' added to the explanation, delta",
    "round_trip": "replace without an edit",
    "prompt_edit": "no steering: the story tells the target wherever it told the answer; judged by the story as it was",
    "caa": "mean difference of training states before the target and before other words of the attribute, at the norm "
    "of the arm edit_delta's shift",
    "random_direction": "a random direction of the same norm",
    "quotes_removed_before, _after": "as edit_delta, the rewriter gets or gives an explanation with empty quotes",
    "attribute_only": "a rewriter that sees the target only, not the explanation",
    "shuffled_rewriters, shuffled_texts": "edit_delta of another prompt of the attribute: its edit, or its rewritten "
    "text; dealt_success: that prompt's target is the first word",
    "leak": "share of the words of a prompt's own unsteered continuation that a text names, less the same for other "
    "prompts' continuations; answer and target left out",
    "told, told_and_after": "the answer replaced in the words of the states of the word where the fact was told, or of "
    f"it and the {AFTER} tokens behind; _strong: {STRONG:g} times; put in at each layer",
    "told_and_after_adapted": "the same with the words of the pair adapted to the row's layer by linear maps",
    "_patched": "the same places (told_to_last: all up to the last token but one) overwritten with the states of the "
    "story that told the target: the most that any change there can do",
    "probe_accuracy, probe_follows": "a linear probe finds the answer in the state, the target in the changed state",
    "/strength_X": "the arm at X times its strength or norm",
    "/at_success_0.9": "at the smallest strength with success >= .9 over all seeds; none where none has it",
    "/matched_validity": f"the largest over strengths with validity >= {MATCHED[0]} of the unsteered",
    "intervals": "95%, bootstrap over stories and seeds",
}
_MEANS = ("success", "validity", "kl", "repetition", "distance", "dealt_success", "leak", "target_probability")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the suite's options."""
    parser.add_argument(
        "--prompts", type=whole_number(1), default=200, metavar="N", help="held-out prompts (default 200)"
    )
    parser.add_argument("--figure", type=user_path_text, metavar="FILE", help="draw success against validity and KL")
    parser.add_argument("--pairs", nargs="+", default=(), metavar="SEED=FOLDER",
                        help="score these pairs (av and ar) afresh, not from stored rows")  # fmt: skip
    parser.add_argument("--save-rows", type=output_file, default=None, metavar="FILE", help="store the rows of --pairs")


def evaluate(
    model: str = "tiny", prompts: int = 200, training_stories: int = 300, figure: str | None = None,
    pairs: Sequence[str] = (), save_rows: str | None = None,
) -> Results:  # fmt: skip
    """Run every arm on the embedded default: seed 0 afresh, the other seeds from stored rows.

    Args:
        model: ``"tiny"``; the judges know the embedded world only.
        prompts: how many, about equally many an attribute.
        training_stories: stories that the arm ``caa`` and the probes are made from.
        figure: image file of success against validity and KL, a curve an arm.
        pairs: ``SEED=FOLDER`` of pairs to score afresh in the place of the stored rows.
        save_rows: file for their rows.

    Raises:
        InputError: for another model, too few prompts, or pairs and files that cannot be.
    """
    if model != "tiny":
        raise InputError(f"--model {model!r}: the judges of suite 'steering' know the embedded world only")
    if prompts < 2 * len(ATTRIBUTES):
        raise InputError(f"--prompts is {prompts}; at least {2 * len(ATTRIBUTES)} are needed, two an attribute")
    folders = parse_pairs(pairs)
    if figure is not None:
        check_figure(figure)
    started = time.perf_counter()
    cases, fresh = score_seed(0, None, prompts, training_stories)
    others = [score_seed(seed, folder, prompts, training_stories)[1] for seed, folder in folders.items()]
    if save_rows is not None:
        store(others, user_path(save_rows))
    stored = [rows for rows in load_rows() if rows.seed != 0] if not folders and STORED_ROWS.is_file() else []
    joined = [rows.chosen(fresh) for rows in stored]
    parts = [fresh, *others, *(rows for rows in joined if rows is not None)]
    if figure is not None:
        draw(parts, figure)
    rows = result_rows(parts, [case.attribute for case in cases])
    seeds = [part.seed for part in parts]
    about = {"fresh": f"seeds {[0, *folders]}", "stored": f"seeds {seeds[1 + len(folders) :]}"}
    return Results("steering", "tiny", seeds, {**DEFINITION, **about}, rows, time.perf_counter() - started)


def parse_pairs(pairs: Sequence[str]) -> dict[int, str]:
    """Read ``SEED=FOLDER``.

    Raises:
        InputError: for another form, or seed 0, which is the embedded pair.
    """
    folders = {}
    for text in pairs:
        seed, equals, folder = text.partition("=")
        if not equals or not seed.isdigit() or int(seed) == 0:
            raise InputError(f"--pairs {text!r}: give SEED=FOLDER with a seed above 0 (0 is the embedded pair)")
        folders[int(seed)] = folder
    return folders


def score_seed(
    seed: int, folder: str | None, prompts: int = 200, training_stories: int = 300
) -> tuple[list[Case], SteeringRows]:
    """Scores of one pair.

    Args:
        seed: of its training; what does not depend on the pair is scored for seed 0 only.
        folder: with ``av`` and ``ar``; the embedded pair when ``None``.
        prompts: how many.
        training_stories: as for :func:`evaluate`.
    """
    from tl_nla.data.progress import tell
    from tl_nla.nla import NLA
    from tl_nla.storyworld.tiny import load_tiny

    step, steps = f"scores of seed {seed}", 4 if seed == 0 else 3
    tell(step, 0, steps)
    tiny = load_tiny()
    nla = tiny.nla if folder is None else NLA.from_pretrained(f"{folder}/av", f"{folder}/ar")
    cases = find_cases(tiny.model, tiny.tokenizer, prompts)
    training = Training.read(tiny.model, tiny.tokenizer, nla.site, training_stories)
    states = last_states(tiny.model, cases, nla.site)
    tell(step, 1, steps)
    rows = score_arms(tiny.model, tiny.tokenizer, cases, nla, states, training, seed)
    tell(step, 2, steps)
    adapted = adapted_pairs(tiny.model, tiny.tokenizer, nla, training_stories) if seed == 0 else None
    score_places(rows, tiny.model, tiny.tokenizer, cases, nla, training.probes(), adapted)
    tell(step, 3, steps)
    if seed == 0:
        score_prompt_edit(rows, tiny.model, tiny.tokenizer, cases, nla.site)
    return cases, rows


def result_rows(parts: Sequence[SteeringRows], attributes: Sequence[str]) -> list[Row]:
    """Rows of the results contract: all attributes together, success and probes also one by one."""
    rows: list[Row] = []
    for arm in parts[0].values["success"]:
        if "@" not in arm:
            rows += _arm_rows(parts, attributes, arm)
        elif "@layer_" in arm:
            name, layer = arm.split("@layer_")
            for metric in ("success", "target_probability", "named"):
                found = mean_of(parts, metric, arm)
                rows += [Row.of(name, metric, found, layer=int(layer))] if found else []
        else:
            name, strength = arm.split("@")
            for metric in ("success", "validity", "kl", "facts_kept"):
                found = mean_of(parts, metric, arm)
                rows += [Row.of(name, f"{metric}/strength_{strength}", found)] if found else []
    leaking = mean_of(parts, "leak", "explanation")
    return rows + ([Row.of("explanation", "leak", leaking)] if leaking else []) + list(matched_rows(parts))


def _arm_rows(parts: Sequence[SteeringRows], attributes: Sequence[str], arm: str) -> Iterator[Row]:
    for metric in (*_MEANS, "facts_kept"):
        found = mean_of(parts, metric, arm)
        if found:
            yield Row.of(arm, metric, found)
    found = mean_of(parts, "log_perplexity", arm)
    if found:
        value, low, high = (float(torch.tensor(x).exp()) for x in (found.value, found.low, found.high))
        yield Row.of(arm, "perplexity", Interval(value, low, high, found.n))
    for metric in ("success", "named", "probe_accuracy", "probe_follows"):
        for attribute in ATTRIBUTES:
            mine = torch.tensor([one == attribute for one in attributes])
            found = mean_of(parts, metric, arm, mine)
            if found:
                yield Row.of(arm, f"{metric}/{attribute}", found)


def matched_rows(parts: Sequence[SteeringRows]) -> Iterator[Row]:
    """The swept arms at the smallest strength that succeeds, and their best where stories stay valid."""
    plain = mean_of(parts, "validity", "unsteered")
    for arm in SWEPT:
        curve = [(strength, mean_of(parts, "success", named(arm, strength)),
                  mean_of(parts, "validity", named(arm, strength))) for strength in sorted((1.0, *SWEEP))]  # fmt: skip
        valid = [won for _, won, kept in curve if won and kept and plain and kept.value >= MATCHED[0] * plain.value]
        if valid:
            yield Row.of(arm, "success/matched_validity", max(valid, key=lambda found: found.value))
        enough = [strength for strength, won, _ in curve if won and won.value >= MATCHED[1]]
        for metric in ("success", "validity", "kl", "facts_kept") if enough else ():
            found = mean_of(parts, metric, named(arm, enough[0]))
            if found:
                yield Row.of(arm, f"{metric}/at_success_{MATCHED[1]:g}", found)


def mean_of(parts: Sequence[SteeringRows], metric: str, arm: str, mine: Tensor | None = None) -> Interval | None:
    """A metric's mean over prompts and seeds that have it; ``facts_kept`` is a ratio of sums."""
    top = "kept" if metric == "facts_kept" else metric
    having = [part for part in parts if arm in part.values.get(top, {})]
    if not having:
        return None

    def joined(take: Callable[[SteeringRows], Tensor]) -> Tensor:
        return torch.cat([take(part) if mine is None else take(part)[mine] for part in having])

    values, stories = joined(lambda part: part.values[top][arm]), joined(lambda part: part.story)
    seeds = joined(lambda part: torch.full_like(part.story, part.seed))
    below = joined(lambda part: part.values["recalls"][arm]) if metric == "facts_kept" else torch.ones_like(values)
    there = ~values.isnan()
    if not there.any() or not all(below[there & (seeds == seed)].sum() > 0 for seed in seeds.unique()):
        return None
    generator = torch.Generator().manual_seed(0)
    if metric == "facts_kept":
        return ratio_interval(values[there], below[there], stories[there], seeds[there], generator=generator)
    return mean_interval(values[there], stories[there], seeds[there], generator=generator)
