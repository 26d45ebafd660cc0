"""Steering where a fact was told: is it in the state there, do words change it, and does the later word follow?

A change of the told place must reach the later word through the layers above it. What no words can do, no words shall
be blamed for. So the same places are also overwritten with the states of a story that told the target: the most that
any change of them could do. Below the NLA's layer its change is put in as it is, and as words of the pair adapted to
that layer by linear maps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from docs.studies.steering.cases import Case
from docs.studies.steering.score import SteeringRows
from tl_nla.metrics.probe import Probe
from tl_nla.model.reading import read
from tl_nla.nla.adaptation import AdaptedNLA, adapt
from tl_nla.steering import change_states, substitute
from tl_nla.storyworld.corpus import TRAINING_SEED, story_ids
from tl_nla.storyworld.generator import write_story

AFTER = 5
"""Tokens behind the told word that the wider place takes in: the rest of its sentence."""
STRONG = 4.0


def places_of(case: Case) -> dict[str, list[int]]:
    """Positions of each place; the prompt's last token belongs to none of them."""
    last = len(case.ids) - 1
    behind = {place for told in case.told for place in range(told, min(told + AFTER + 1, last))}
    return {
        "told": list(case.told),
        "told_and_after": sorted(behind),
        "told_to_last": list(range(case.told[0], last)),
    }


def told_shifts(nla: Any, cases: Sequence[Case], states: Sequence[Tensor]) -> list[tuple[Tensor, str]]:
    """What renaming the fact in the words of every state of ``told_and_after`` adds, and the words at the last telling.

    Args:
        nla: the pair.
        cases: the prompts.
        states: ``[pos, d_model]`` of each prompt.

    Returns:
        For each case the shift of all positions, zero outside of the place; the explanation of the last told word's
        state.
    """
    places = [places_of(case)["told_and_after"] for case in cases]
    rewriters = [substitute({case.answer: case.target}) for case, listed in zip(cases, places, strict=True)
                 for _ in listed]  # fmt: skip
    acts = torch.cat([one[listed] for one, listed in zip(states, places, strict=True)])
    change = change_states(nla, acts, rewriters)
    found, start = [], 0
    for case, one, listed in zip(cases, states, places, strict=True):
        shifts = torch.zeros_like(one)
        shifts[listed] = change.shift[start : start + len(listed)]
        found.append((shifts, change.before[start + listed.index(case.told[-1])]))
        start += len(listed)
    return found


def adapted_pairs(model: Any, tokenizer: Any, nla: Any, stories: int) -> dict[int, AdaptedNLA]:
    """The pair adapted to each layer below its own, by linear maps fitted to training stories."""
    points = [f"blocks.{layer}.hook_resid_post" for layer in range(nla.layer + 1)]
    found = [read(model, torch.tensor([story_ids(tokenizer, write_story(TRAINING_SEED, index))]), points)
             for index in range(stories)]  # fmt: skip
    acts = [torch.cat([reading[point] for reading in found]) for point in points]
    return {layer: adapt(nla, acts[layer], acts[nla.layer], layer) for layer in range(nla.layer)}


@torch.no_grad()
def score_places(
    rows: SteeringRows, model: Any, tokenizer: Any, cases: Sequence[Case], nla: Any,
    probes: Mapping[tuple[str, str], Probe], adapted: Mapping[int, Any] | None = None,
) -> None:  # fmt: skip
    """Enter the arms that change told places.

    Metrics: ``success`` (the target is the next word), ``target_probability``, and ``named`` (the explanation names the
    fact at the told word). ``probe_accuracy``: a probe finds the fact in the state. ``probe_follows``: it finds the
    target in the changed state. Keys end in ``@layer_K`` where the change is put in below the NLA's layer.

    Args:
        rows: what the scores are entered into.
        model: the embedded target.
        tokenizer: its tokenizer.
        cases: the prompts.
        nla: the pair.
        probes: by attribute and place.
        adapted: pairs of the layers below; where given, these layers are changed as well and places overwritten.
    """
    layers = [*(adapted or {}), nla.layer]
    points = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    targets = [int(tokenizer.encode(f" {case.target}", add_special_tokens=False)[0]) for case in cases]
    own = [read(model, torch.tensor([case.ids]), points) for case in cases]
    found = told_shifts(nla, cases, [reading[nla.site] for reading in own])
    below = {point: told_shifts(adapted[layer], cases, [reading[point] for reading in own])
             for layer, point in zip(layers, points, strict=True) if adapted and layer in adapted}  # fmt: skip
    for number, (case, target) in enumerate(zip(cases, targets, strict=True)):
        tokens, (shifts, words), places = torch.tensor([case.ids]), found[number], places_of(case)
        rows.put("named", "told", number, float(case.answer in words))
        enter_probes(rows, number, case, probes, own[number][nla.site], shifts)
        told = [target if place in case.told else token for place, token in enumerate(case.ids)]
        other = None if adapted is None else read(model, torch.tensor([told]), points)
        for layer, point in zip(layers, points, strict=True):
            key = "" if layer == nla.layer else f"@layer_{layer}"
            arms = {"told": _at(shifts, places["told"]), "told_and_after": shifts}
            if point in below:
                arms["told_and_after_adapted"], words = below[point][number]
                rows.put("named", f"told_and_after_adapted{key}", number, float(case.answer in words))
            arms |= {f"{arm}_strong": STRONG * shift for arm, shift in arms.items()}
            if other is not None:
                change = other[point] - own[number][point]
                arms |= {f"{arm}_patched": _at(change, listed) for arm, listed in places.items()}
            chances = next_chances(model, tokens, point, torch.stack(list(arms.values())))
            for arm, chance in zip(arms, chances, strict=True):
                rows.put("success", arm + key, number, float(chance.argmax() == target))
                rows.put("target_probability", arm + key, number, float(chance[target]))


def enter_probes(
    rows: SteeringRows, number: int, case: Case, probes: Mapping[tuple[str, str], Probe],
    states: Float[Tensor, "pos d_model"], shifts: Float[Tensor, "pos d_model"],
) -> None:  # fmt: skip
    """Enter whether probes find the answer in the states, and the target in the changed ones."""
    told = case.told[-1]
    for place, position in {"told": told, "told_and_after": told + 1, "last": len(case.ids) - 1}.items():
        probe = probes.get((case.attribute, place))
        if probe is not None:
            before, after = probe.predict(torch.stack([states[position], states[position] + shifts[position]]))
            arm = "unsteered" if place == "last" else place
            rows.put("probe_accuracy", arm, number, float(before == case.answer))
            if place != "last":
                rows.put("probe_follows", arm, number, float(after == case.target))


def next_chances(
    model: Any, tokens: Tensor, point: str, shifts: Float[Tensor, "changes pos d_model"]
) -> Float[Tensor, "changes vocab"]:
    """For each change of all positions' states, the chances of the next token."""
    hook = (point, lambda activation, hook: activation + shifts.to(activation))
    return model.run_with_hooks(tokens.expand(len(shifts), -1), fwd_hooks=[hook])[:, -1].float().softmax(-1)


def _at(shift: Float[Tensor, "pos d_model"], places: list[int]) -> Float[Tensor, "pos d_model"]:
    kept = torch.zeros_like(shift)
    kept[places] = shift[places]
    return kept
