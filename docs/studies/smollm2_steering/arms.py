"""Every arm's change to the states of one prompt, by strength."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from docs.studies.smollm2_steering.prompts import COLOURS, TAUGHT, liking
from docs.studies.steering.arms import Words
from tl_nla.model.reading import read
from tl_nla.model.text import TextEncoder
from tl_nla.steering import Rewriter, SteeringVector, change_states, mean_difference

DELTA, REPLACE, VECTORS = (0.5, 1.0, 2.0, 4.0), (0.3, 0.6, 1.0), (1.0, 2.0, 4.0, 8.0)
REPLACING = ("append", "displace", "edit", "instruction_only")
"""Arms that replace states, too."""

Key = tuple[str, float]
Shifts = dict[Key, Float[Tensor, "places d_model"]]


@dataclass(frozen=True)
class Prompt:
    """A prompt with what the NLA says of its states.

    Attributes:
        ids: its tokens, the begin token first.
        states: of all tokens but the begin token.
        words: their explanations.
    """

    ids: list[int]
    states: Float[Tensor, "places d_model"]
    words: Words


def read_prompts(smol: Any, nla: Any, texts: Sequence[str]) -> list[Prompt]:
    """Read and verbalize every token of some prompts, all at once."""
    encode = TextEncoder(smol.tokenizer, smol.model)
    ids = [list(encode(text).ids) for text in texts]
    states = [read(smol.model, torch.tensor([one]), [nla.site], slice(1, None))[nla.site] for one in ids]
    said = iter(nla.verbalize(torch.cat(states), max_new_tokens=40, batch_size=96))
    prompts = []
    for own, acts in zip(ids, states, strict=True):
        told = [next(said) for _ in acts]
        prompts.append(Prompt(own, acts, Words(nla, told)))
    return prompts


def word_shifts(prompt: Prompt, arms: Mapping[str, Rewriter]) -> Shifts:
    """Changes by edited words; ``NAME/replace`` replaces states, all others add the difference."""
    found: Shifts = {}
    for name, rewrite in arms.items():
        found |= _scaled(name, change_states(prompt.words, prompt.states, rewrite).shift, DELTA)
    for name in ("round_trip", *REPLACING):
        rewrite = arms.get(name, lambda text: text)
        for strength in REPLACE:
            change = change_states(prompt.words, prompt.states, rewrite, "replace", strength)
            found[f"{name}/replace", strength] = change.shift
    return found


def vector_shifts(prompt: Prompt, vectors: Mapping[str, SteeringVector], like: Tensor, seed: int) -> Shifts:
    """Changes by steering vectors at each state's norm, and by random directions as long as some other change."""
    found: Shifts = {}
    scale = prompt.states.float().norm(dim=1, keepdim=True) / prompt.states.shape[1] ** 0.5
    for name, vector in vectors.items():
        found |= _scaled(name, scale * vector.vector, VECTORS)
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return found | _scaled("random_direction", drawn * like.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True),
                           DELTA)  # fmt: skip


def _scaled(name: str, shift: Tensor, strengths: Sequence[float]) -> Shifts:
    return {(name, strength): strength * shift.float() for strength in strengths}


def others_shift(own: Tensor, other: Tensor) -> Tensor:
    """Another prompt's changes, put at the same places counted from the end; zeros where it has none."""
    found = torch.zeros_like(own)
    count = min(len(own), len(other))
    found[-count:] = other[-count:]
    return found


def steering_vectors(smol: Any, site: str, colour: str) -> dict[str, SteeringVector]:
    """CAA: prompts behind a sentence that tells the liked colour, against those behind other colours.

    ``caa`` reads the last token, which goes on to say the colour; ``caa_word`` the token of the colour that was told.
    """
    encode = TextEncoder(smol.tokenizer, smol.model)
    wanted: dict[str, list[Tensor]] = {"caa": [], "caa_word": []}
    others: dict[str, list[Tensor]] = {"caa": [], "caa_word": []}
    for one in COLOURS:
        side = wanted if one == colour else others
        told = len(encode(liking(one).rstrip(" .")))
        for text in TAUGHT:
            ids = torch.tensor([list(encode(liking(one) + text).ids)])
            states = read(smol.model, ids, [site], [told - 1, ids.shape[1] - 1])[site]
            side["caa_word"].append(states[0])
            side["caa"].append(states[1])
    return {name: mean_difference(torch.stack(wanted[name]), torch.stack(others[name]), site) for name in wanted}
