"""Skips at a few positions, without the logits of the others."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.attribution.beside import NotBesideError
from tl_nla.attribution.capture import capture
from tl_nla.attribution.components import as_component
from tl_nla.attribution.left_out import Way
from tl_nla.attribution.skips import SkipEffects, Wanted, effects_of_run
from tl_nla.model.probe import lock_of


def effects_at(
    model: Any, tokens: Int[Tensor, "batch pos"], components: Iterable[Any], columns: Sequence[int], top_k: int
) -> SkipEffects:
    """As :func:`tl_nla.attribution.skip_effects`, for some columns alone, in whose order the effects come.

    The clean run keeps these columns only. At a vocabulary of 256,000 the logits of 1,024 tokens would take 1 GB. Where
    changed positions cannot be run beside it, all columns are kept after all.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        tokens: token ids; right padding needs no mask.
        components: writing sites or their texts.
        columns: sorted, each once.
        top_k: how many changed tokens are told of each position.

    Raises:
        InputError: as :func:`tl_nla.attribution.skip_effects`.
    """
    parts, columns = [as_component(site, model) for site in components], list(columns)
    with lock_of(model), torch.no_grad():
        try:
            clean = capture(model, tokens, columns=columns)
            return effects_of_run(model, clean, Wanted(parts, Way(False, range(len(columns))), None, top_k))
        except NotBesideError:
            clean = capture(model, tokens)
            return effects_of_run(model, clean, Wanted(parts, Way(False, columns), None, top_k)).only(columns)
