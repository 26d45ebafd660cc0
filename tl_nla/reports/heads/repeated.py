"""What heads do on random tokens that are repeated: nothing but the repetition tells them where to look.

The detection patterns are those of TransformerLens (``transformer_lens.head_detector``). Its ``detect_head`` divides by
the attention of all queries, and keeps every activation of one text. Here queries without a match are left aside, and
each layer is reduced while the pass runs. Repeated random tokens: Olsson et al. 2022, "In-context Learning and
Induction Heads".
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.head_detector import (
    get_duplicate_token_head_detection_pattern,
    get_induction_head_detection_pattern,
    get_previous_token_head_detection_pattern,
)

from tl_nla.errors import InputError
from tl_nla.model.probe import device_of
from tl_nla.model.text import TextEncoder
from tl_nla.oracle.labels import Vocabulary
from tl_nla.reports.heads.watch import watched_pass

NAMES = ("duplicate", "induction", "previous")
TEXTS, TOKENS = 8, 24
"""How many texts, and how many random tokens stand in each, twice."""
_DETECT = (
    get_duplicate_token_head_detection_pattern, get_induction_head_detection_pattern,
    get_previous_token_head_detection_pattern,
)  # fmt: skip


def repeated_tokens(model: Any, seed: int) -> Int[Tensor, "text pos"]:
    """Random tokens twice, behind what stands in front of a text.

    Raises:
        InputError: for a context or a vocabulary that is too small.
    """
    tokenizer = model.tokenizer
    begin = TextEncoder(tokenizer, model).begin
    known = torch.nonzero(Vocabulary.of(tokenizer, int(model.cfg.d_vocab)).allowed).flatten()
    count = min(TOKENS, (int(model.cfg.n_ctx) - len(begin)) // 2, len(known))
    if count < 4:
        raise InputError(f"context {model.cfg.n_ctx} and {len(known)} tokens are too few to repeat random tokens")
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(TEXTS):
        some = known[torch.randperm(len(known), generator=generator)[:count]]
        rows.append(torch.cat([torch.tensor(begin, dtype=torch.long), some, some]))
    return torch.stack(rows).to(device_of(model))


def repetition_scores(
    model: Any, tokens: Int[Tensor, "text pos"], layers: list[int]
) -> dict[int, Float[Tensor, "head score"] | str]:
    """Share of each head's attention on what the patterns expect, at queries for which they expect anything.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokens: texts in which tokens come again.
        layers: which are told.

    Returns:
        For each layer the scores by ``NAMES``, or why there are none.
    """
    expected = torch.stack([torch.stack([detect(row[None].cpu()) for row in tokens]) for detect in _DETECT])
    expected = expected.to(tokens.device).float()
    expected[..., 0] = 0.0  # the first token is where heads rest
    queries = (expected.sum(-1) > 0).float()
    # The token before is judged at the same queries as the others: those of the second half.
    queries[2] = queries[0]
    counted = queries.sum((1, 2)).clamp_min(1.0)

    def reduce(pattern: Tensor) -> Tensor:
        return torch.einsum("bhqk,sbqk->hs", pattern.float(), expected * queries[..., None]) / counted

    found = watched_pass(model, tokens, layers, reduce)
    return {layer: read if isinstance(read, str) else read.sums for layer, read in found.items()}
