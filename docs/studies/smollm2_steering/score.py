"""What every change does to the next word and to the text that follows, prompt by prompt."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.scored import keep_seed, rows_of_seed
from docs.studies.smollm2_steering.arms import (
    Prompt,
    Shifts,
    others_shift,
    read_prompts,
    steering_vectors,
    vector_shifts,
    word_shifts,
)
from docs.studies.smollm2_steering.prompts import COLOUR, COLOURS, DRAW, THING, asked, liking
from docs.studies.smollm2_steering.rewriters import rewriters, rewritten_by_model
from docs.studies.steering.continuations import Continuations, continue_changed
from tl_nla.data.progress import told
from tl_nla.model.text import TextEncoder

NEW_TOKENS, _CHUNK = 12, 48
PLACES = ("last", "all")
METRICS = ("odds", "first", "named", "log_perplexity", "kl")


def score_prompts(smol: Any, nla: Any, path: Path, seed: int, count: int) -> None:
    """Score the first prompts of a seed; one that has its scores already is not done again.

    Args:
        smol: the model with its tokenizer.
        nla: of the states that are changed.
        path: of the rows.
        seed: says which prompts, and which random directions.
        count: how many are scored.
    """
    done, texts = rows_of_seed(path, seed), asked(seed)
    prompts, vectors = read_prompts(smol, nla, texts), steering_vectors(smol, nla.site, COLOUR)
    hugging_face = smol.model.original_model
    numbers = [number for number, text in enumerate(texts[:count]) if text not in {row["prompt"] for row in done}]
    for (number,) in told([[number] for number in numbers], "steering"):
        prompt, other = prompts[number], prompts[(number + 1) % len(prompts)]
        by_model = rewritten_by_model(hugging_face, smol.tokenizer, COLOUR, prompt.words.texts)
        arms = rewriters(COLOUR, THING, by_model)
        shifts = word_shifts(prompt, arms)
        edit = shifts["edit", 1.0]
        foreign = others_shift(edit, word_shifts(other, {"edit": arms["edit"]})["edit", 1.0])
        shifts |= {("unrelated_prompt", strength): strength * foreign for strength in (0.5, 1.0, 2.0, 4.0)}
        shifts |= vector_shifts(prompt, vectors, edit, DRAW * seed + number)
        row = {"prompt": texts[number], "arms": _scores(smol, prompt, nla.site, shifts)}
        row["arms"]["prompt_edit"] = _prompt_edit(smol, texts[number], nla.site, prompt)
        row |= {"said": prompt.words.texts[-1], "rewritten": {name: arm(prompt.words.texts[-1])
                                                              for name, arm in arms.items()}}  # fmt: skip
        done.append(row)
        keep_seed(path, seed, done)


def _scores(smol: Any, prompt: Prompt, site: str, shifts: Shifts) -> dict[str, list[float]]:
    keys = [("unsteered", 0.0), *shifts]
    every = torch.stack([torch.zeros_like(prompt.states).float(), *shifts.values()])
    found: dict[str, list[float]] = {}
    for place in PLACES:
        changes = every if place == "all" else every[:, -1:]
        parts = [continue_changed(smol.model, prompt.ids, site, changes[start : start + _CHUNK], NEW_TOKENS,
                                  smol.tokenizer.eos_token_id) for start in range(0, len(changes), _CHUNK)]  # fmt: skip
        whole = Continuations(*(torch.cat([getattr(part, name) for part in parts])
                                for name in ("first", "tokens", "log_perplexity")))  # fmt: skip
        measured = _measured(smol.tokenizer, whole, whole.first[0])
        found |= {f"{name}@{strength:g}/{place}": measured[row] for row, (name, strength) in enumerate(keys)}
    return found


def _measured(tokenizer: Any, found: Continuations, plain: Tensor) -> list[list[float]]:
    """One list a change, in the order of ``METRICS``."""
    ids = {one: tokenizer.encode(f" {one}", add_special_tokens=False)[0] for one in COLOURS}
    others = found.first[:, [ids[one] for one in COLOURS if one != COLOUR]]
    own = found.first[:, ids[COLOUR]]
    divergence = (plain.exp() * (plain - found.first)).sum(1)
    texts = tokenizer.batch_decode(found.tokens, skip_special_tokens=True)
    columns = (
        own - others.logsumexp(1), (own > others.max(1).values).float(),
        torch.tensor([float(COLOUR in text.lower()) for text in texts]), found.log_perplexity, divergence,
    )  # fmt: skip
    return [[round(float(value), 3) for value in values] for values in zip(*columns, strict=True)]


def _prompt_edit(smol: Any, text: str, site: str, prompt: Prompt) -> list[float]:
    """Nothing is steered; a sentence in front tells what the writer likes. Perplexity is that without the sentence."""
    encode = TextEncoder(smol.tokenizer, smol.model)
    end = smol.tokenizer.eos_token_id
    told_ids = list(encode(liking(COLOUR) + text).ids)
    found = continue_changed(smol.model, told_ids, site, torch.zeros(1, prompt.states.shape[1]), NEW_TOKENS, end)
    plain = smol.model(torch.tensor([[*prompt.ids, *found.tokens[0].tolist()]]))[0].float().log_softmax(-1)
    behind = plain[len(prompt.ids) - 1 : -1]
    said = found.tokens[0]
    counted = torch.cat([torch.ones(1, dtype=torch.bool), said[:-1] != end])
    nats = -(behind.gather(1, said[:, None])[:, 0] * counted).sum() / counted.sum()
    whole = Continuations(found.first, found.tokens, nats[None])
    return _measured(smol.tokenizer, whole, behind[0])[0]
