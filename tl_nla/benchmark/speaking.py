"""Vectors put into words, beside ``generate`` of Hugging Face on the same rows; the words are compared first.

Both ways take so many rows at once as a piece has.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.bench import Case
from tl_nla.benchmark.real_work import WorkSizes
from tl_nla.data import Document
from tl_nla.data.explained import StateCapture, explain_states
from tl_nla.metrics.functional import squared_deviations, squared_errors
from tl_nla.nla import NLA
from tl_nla.nla.verbalizer import Generation

_POSITIONS = 4
_LONGEST = 96
"""Of a text: the states of the pair that ships with SmolLM2 were read from pieces of so many tokens."""


def random_states(nla: NLA, count: int) -> Float[Tensor, "n d_model"]:
    """Vectors that mean nothing, for a pair that was never trained: no explanation ends before its cap."""
    return torch.randn(count, nla.verbalizer.d_model, generator=torch.Generator().manual_seed(0))


def states_of_texts(
    model: Any, tokenizer: Any, nla: NLA, documents: list[Document], count: int
) -> Float[Tensor, "n d_model"]:
    """States of texts at the layer that a pair explains.

    Args:
        model: the pair's target.
        tokenizer: its tokenizer.
        nla: the pair.
        documents: texts; four positions of each are drawn.
        count: so many states at most.
    """
    some, point = documents[: -(-count // _POSITIONS)], f"blocks.{nla.layer}.hook_resid_post"
    found = explain_states(model, tokenizer, some, point, _POSITIONS, how=StateCapture(longest=_LONGEST))
    return found.acts[:count]


def speaking_cases(nla: NLA, acts: Float[Tensor, "n d_model"], sizes: WorkSizes, read_back: bool) -> Iterator[Case]:
    """A case for every piece of the vectors."""
    for first in range(0, len(acts), sizes.piece):
        some = acts[first : first + sizes.piece]
        yield Case(f"states {first + 1} to {first + len(some)} put into words",
                   f"transformers generate, {sizes.piece} rows at once", partial(_spoken, nla, some, sizes.new_tokens),
                   partial(_spoken_by_transformers, nla, some, sizes.new_tokens), _equal,
                   f"{len(acts)} states put into words", _told(nla, some) if read_back else None)  # fmt: skip


def _told(nla: NLA, acts: Tensor) -> Callable[[Generation], dict[str, float]]:
    """Sums from which FVE is made: errors of what is read back, deviations from the training mean."""

    def told(spoken: Generation) -> dict[str, float]:
        errors = squared_errors(nla.reconstruct(spoken.texts), acts)
        return {"explanations": float(len(acts)), "error": float(errors.sum()),
                "deviation": float(squared_deviations(acts, nla.mean).sum())}  # fmt: skip

    return told


def _spoken(nla: NLA, acts: Tensor, count: int) -> Generation:
    return nla.generate(acts, max_new_tokens=count, batch_size=len(acts))


@torch.no_grad()
def _spoken_by_transformers(nla: NLA, acts: Tensor, count: int) -> list[list[int]]:
    verbalizer: Any = nla.verbalizer
    prompt, ends = verbalizer.prompt_embeddings(acts), set(verbalizer.stop_ids)
    ids = verbalizer.model.generate(
        inputs_embeds=prompt, attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long), max_new_tokens=count,
        do_sample=False, eos_token_id=sorted(ends), pad_token_id=verbalizer.pad_id,
    ).tolist()  # fmt: skip
    return [row[: next((place + 1 for place, token in enumerate(row) if token in ends), len(row))] for row in ids]


def _equal(ours: Generation, theirs: list[list[int]]) -> bool:
    return [ids[mask].tolist() for ids, mask in zip(ours.ids, ours.mask, strict=True)] == theirs
