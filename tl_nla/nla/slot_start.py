"""A start for learned slots: each begins as the linear guess at one word of the text."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.metrics.norms import scale_to_norm
from tl_nla.metrics.ridge import fit_ridge

ROWS = 10_000
_DECAY = 1e-2


def never_trained(verbalizer: Any) -> bool:
    """Whether the verbalizer has several learned slots that are all still the identity."""
    injection = verbalizer.injection
    if injection.config.kind != "affine" or injection.config.slots < 2:
        return False
    weight, bias = injection.weight.detach(), injection.bias.detach()
    return bool((weight == torch.eye(weight.shape[-1]).to(weight)).all()) and not bool(bias.any())


def start_slots(verbalizer: Any, acts: Float[Tensor, "n d_model"], texts: Sequence[str], decay: float = _DECAY) -> None:
    """Let slots begin as linear maps from states to the embeddings of the words that stand at the texts' ends.

    Slot 0 keeps its start, the state itself. Of k further slots, the last guesses the last token, the one in front of
    it the token before, and so on. So the slots are a blurred copy of the text's end. Trained from the state alone,
    they would first have to find these maps.

    Args:
        verbalizer: with injection ``affine`` and two slots or more; changed in place.
        acts: states of training texts.
        texts: what was read up to each state, at least its end, such as
            :attr:`tl_nla.data.ExplainedStates.contexts`.
        decay: of the ridge regressions, relative to the mean variance of the states.

    Raises:
        InputError: for another injection, or rows that differ in number.
    """
    injection = verbalizer.injection
    if injection.config.kind != "affine":
        raise InputError(f"slots of injection {injection.config.kind!r} are not learned; only those of 'affine' start")
    if len(acts) != len(texts):
        raise InputError(f"{len(acts)} states for {len(texts)} texts; give a text a state")
    acts, texts = acts[:ROWS], list(texts[:ROWS])
    ids = verbalizer.tokenizer(texts, add_special_tokens=False)["input_ids"]
    vectors = scale_to_norm(acts.float(), float(injection.config.scale))
    with torch.no_grad():
        for back, slot in enumerate(range(injection.config.slots - 1, 0, -1)):
            rows = [row for row, own in enumerate(ids) if len(own) > back]
            if len(rows) < 2:
                continue
            goal = verbalizer.embed(torch.tensor([ids[row][-1 - back] for row in rows])).float().cpu()
            fitted = fit_ridge(vectors[rows].cpu(), goal, decay)
            injection.weight[slot] = fitted.weight.T.to(injection.weight)
            injection.bias[slot] = (fitted.target_mean - fitted.input_mean @ fitted.weight).to(injection.bias)
