"""Arms of suite ``steering`` at the prompt's last token: edits of words, vectors, controls against leaks."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from docs.studies.steering.cases import Case, Training, partners
from docs.studies.steering.continuations import continue_changed
from docs.studies.steering.score import SteeringRows
from tl_nla.steering import (
    Rewriter,
    append,
    change_states,
    compose,
    expect,
    outside_quotes,
    random_direction,
    substitute,
    without_quotes,
)
from tl_nla.steering.judges import repetition, word_distance
from tl_nla.steering.leaks import leak, only
from tl_nla.storyworld.judges import judge_story

NEW_TOKENS = 16
SWEEP = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 2.0, 8.0)
SWEPT = ("edit_delta", "edit_replace", "caa", "random_direction")
SHUFFLED = ("shuffled_rewriters", "shuffled_texts")
LEAKS = ("explanation", "edit_delta", "quotes_removed_after", "attribute_only")


class Words:
    """A pair whose explanations of the chosen states are known, and which reads each text once."""

    def __init__(self, nla: Any, texts: Sequence[str]) -> None:
        self.nla, self.texts = nla, list(texts)
        self.known: dict[str, Tensor] = {}

    def verbalize(self, acts: Float[Tensor, "n d_model"]) -> list[str]:
        """The known explanations."""
        return self.texts

    def reconstruct(self, texts: Sequence[str]) -> Float[Tensor, "n d_model"]:
        """Read texts, those that are new all at once."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known |= dict(zip(new, self.nla.reconstruct(new), strict=True))
        return torch.stack([self.known[text] for text in texts])


def expected_next(word: str) -> str:
    """The sentence of an explanation that names the next word, and nothing else."""
    return expect(word)("")


def word_arms(case: Case) -> dict[str, tuple[Rewriter, str]]:
    """Rewriter and mode of each arm that edits this prompt's own explanation."""
    rename = substitute({case.answer: case.target})
    displace = compose(rename, expect(case.target))
    return {
        "round_trip": (lambda text: text, "replace"),
        "append": (append(f"The next word is {case.target}."), "delta"),
        "edit": (rename, "delta"),
        "edit_delta": (displace, "delta"),
        "edit_replace": (displace, "replace"),
        "facts_only": (outside_quotes(rename), "delta"),
        "next_only": (expect(case.target), "delta"),
        "quotes_removed_before": (compose(without_quotes, displace), "delta"),
        "quotes_removed_after": (compose(displace, without_quotes), "delta"),
        "attribute_only": (only(expected_next(case.target)), "delta"),
    }


def shifts_of(
    cases: Sequence[Case], states: Float[Tensor, "n d_model"], words: Words, training: Training
) -> dict[str, Tensor]:
    """What each arm adds to each prompt's state; NaN where an arm does not apply."""
    arms = [word_arms(case) for case in cases]
    shifts: dict[str, Tensor] = {"unsteered": torch.zeros_like(states)}
    for arm in arms[0]:
        rewriters, mode = [one[arm][0] for one in arms], arms[0][arm][1]
        for strength in (1.0, *(SWEEP if arm in SWEPT else ())):
            shifts[named(arm, strength)] = change_states(words, states, rewriters, mode, strength).shift
    dealt = [arms[other]["edit_delta"][0] for other in partners(cases)]
    texts = [only(dealt_edit) for dealt_edit in after_texts(cases, words, "edit_delta", partners(cases))]
    for arm, rewriters in zip(SHUFFLED, (dealt, texts), strict=True):
        shifts[arm] = change_states(words, states, rewriters, "delta").shift
    size = shifts["edit_delta"].norm(dim=-1)
    directions = [training.contrast(case) for case in cases]
    none = torch.full((states.shape[-1],), float("nan"))
    noise = [
        none if one is None else random_direction(one, torch.Generator().manual_seed(case.story)).vector
        for one, case in zip(directions, cases, strict=True)
    ]
    for arm, found in (("caa", [none if one is None else one.vector for one in directions]),
                       ("random_direction", noise)):  # fmt: skip
        unit = torch.nn.functional.normalize(torch.stack(found), dim=-1) * size[:, None]
        for strength in (1.0, *(SWEEP if arm in SWEPT else ())):
            shifts[named(arm, strength)] = strength * unit
    return shifts


def after_texts(cases: Sequence[Case], words: Words, arm: str, order: Sequence[int]) -> list[str]:
    """Rewritten explanations of the cases in an order."""
    return [word_arms(cases[number])[arm][0](words.texts[number]) for number in order]


def named(arm: str, strength: float) -> str:
    """Key of an arm at a strength."""
    return arm if strength == 1 else f"{arm}@{strength:g}"


def score_arms(
    model: Any, tokenizer: Any, cases: Sequence[Case], nla: Any, states: Float[Tensor, "n d_model"],
    training: Training, seed: int,
) -> SteeringRows:  # fmt: skip
    """Scores of every arm and strength on every prompt."""
    words = Words(nla, nla.verbalize(states))
    shifts = shifts_of(cases, states, words, training)
    rows, other = SteeringRows.of(seed, cases), partners(cases)
    for place, case in enumerate(cases):
        arms = {arm: added[place] for arm, added in shifts.items() if not added[place].isnan().any()}
        found = continue_changed(model, case.ids, training.point, torch.stack(list(arms.values())), NEW_TOKENS,
                                 tokenizer.eos_token_id)  # fmt: skip
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in found.tokens]
        rows.unsteered.append(texts[0])
        kl = (found.first[:1].exp() * (found.first[:1] - found.first)).sum(-1).clamp_min(0)
        prompt = tokenizer.decode(case.ids, skip_special_tokens=True)
        for number, (arm, said) in enumerate(zip(arms, texts, strict=True)):
            judge(rows, arm, place, prompt, said, case.target, texts[0])
            rows.put("kl", arm, place, float(kl[number]))
            if "@" not in arm:
                rows.put("log_perplexity", arm, place, float(found.log_perplexity[number]))
            if arm in SHUFFLED:
                dealt = judge_story(prompt, said, cases[other[place]].target)
                rows.put("dealt_success", arm, place, float(dealt.first))
    rows.values["leak"] = leaks(cases, words, rows.unsteered)
    return rows


def judge(rows: SteeringRows, arm: str, place: int, prompt: str, said: str, target: str, unsteered: str) -> None:
    """Enter what the world's parser says of one continuation, and how far it is from the unsteered one."""
    judged = judge_story(prompt, said, target)
    rows.put("success", arm, place, float(judged.first))
    rows.put("validity", arm, place, float(judged.valid))
    rows.put("recalls", arm, place, float(judged.recalls))
    rows.put("kept", arm, place, float(judged.kept))
    if "@" not in arm:
        rows.put("repetition", arm, place, repetition(said))
        rows.put("distance", arm, place, word_distance(said, unsteered))


def leaks(cases: Sequence[Case], words: Words, unsteered: Sequence[str]) -> dict[str, Tensor]:
    """What texts tell about their own unsteered continuation beyond other prompts' ones, the attribute left out."""
    ignored = [{case.answer, case.target} for case in cases]
    everyone = range(len(cases))
    texts = {arm: words.texts if arm == "explanation" else after_texts(cases, words, arm, everyone) for arm in LEAKS}
    return {arm: leak(said, unsteered, ignored).excess for arm, said in texts.items()}


@torch.no_grad()
def score_prompt_edit(rows: SteeringRows, model: Any, tokenizer: Any, cases: Sequence[Case], point: str) -> None:
    """Enter the arm ``prompt_edit``, behind the others: the story tells the target wherever it told the answer."""
    nothing = torch.zeros(1, int(model.cfg.d_model))
    for place, case in enumerate(cases):
        target = tokenizer.encode(f" {case.target}", add_special_tokens=False)
        ids = [target[0] if position in case.told else token for position, token in enumerate(case.ids)]
        found = continue_changed(model, ids, point, nothing, NEW_TOKENS, tokenizer.eos_token_id)
        said = tokenizer.decode(found.tokens[0], skip_special_tokens=True)
        prompt = tokenizer.decode(case.ids, skip_special_tokens=True)
        judge(rows, "prompt_edit", place, prompt, said, case.target, rows.unsteered[place])
        clean = model(torch.tensor([case.ids]))[0, -1].float().log_softmax(-1)
        rows.put("kl", "prompt_edit", place, float((clean.exp() * (clean - found.first[0])).sum()))
