"""Text of the model itself: its own distribution, and as much of it as one wants."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.amounts import check_count

OPENINGS = (
    "The", "In", "When I was", "Once upon a time", "Dear", "How to", "According to", "It was", "My", "The history of",
    "Scientists", "A recipe for", "Question:", "Chapter 1", "Abstract:", "The city of", "She", "They", "Yesterday",
    "We", "The war", "Mathematics", "A doctor", "The company", "In the year", "If you", "Most people", "The river",
)  # fmt: skip
"""Beginnings of texts of many kinds; each is followed by what the model makes of it."""


@torch.no_grad()
def sample_documents(
    model: Any, tokenizer: Any, count: int, length: int = 256, seed: int = 0, openings: Sequence[str] = OPENINGS
) -> Iterator[str]:
    """Sample documents at temperature 1, without any cut of the distribution.

    Documents with the same opening are sampled together, with a cache of keys and values.

    Args:
        model: a Hugging Face causal language model, such as :func:`tl_nla.model.loading.load_causal_lm` gives.
        tokenizer: its tokenizer.
        count: how many documents; openings are taken in turn.
        length: tokens of each at most, the opening among them; one ends before where the model ends it.
        seed: of the sampling; the same seed gives the same documents.
        openings: beginnings.

    Raises:
        InputError: for amounts below 1.
    """
    for name, value in (("count", count), ("length", length), ("openings", len(openings))):
        check_count(name, value)
    for number, opening in enumerate(openings[:count]):
        rows = len(range(number, count, len(openings)))
        generator = torch.Generator().manual_seed(seed * 100_003 + number)
        ids = torch.tensor([tokenizer.encode(opening)] * rows, device=model.device)
        for row in _continued(model, ids, length, generator, tokenizer.eos_token_id).tolist():
            yield tokenizer.decode(row, skip_special_tokens=True)


def _continued(
    model: Any, ids: Int[Tensor, "rows pos"], length: int, generator: torch.Generator, end: int | None
) -> Int[Tensor, "rows longer"]:
    """Rows with what the model adds to them; behind its end token a row holds nothing else."""
    found, step, past = ids, ids, None
    done = torch.zeros(len(ids), dtype=torch.bool)
    while found.shape[1] < length and not bool(done.all()):
        out = model(step, past_key_values=past, use_cache=True)
        past = out.past_key_values
        step = torch.multinomial(out.logits[:, -1].float().softmax(-1).cpu(), 1, generator=generator)
        if end is not None:
            step[done] = end
            done |= step[:, 0] == end
        step = step.to(found.device)
        found = torch.cat([found, step], 1)
    return found
