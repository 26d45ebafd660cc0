"""Which layer a pair is best at: its reconstruction at K − 1, K and K + 1 on the target itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.metrics.functional import cosine, fve
from tl_nla.model.reading import read
from tl_nla.model.text import TextEncoder
from tl_nla.nla.inputs import check_texts

PASSAGES = (
    "The harbour was quiet until the ferry came in with its lights on, and the men on the pier began to shout.",
    "To compute the average, add all values and divide the sum by how many there are; an empty list has no average.",
    "In 1815 a volcano in Indonesia threw so much ash into the air that the next year had no summer in Europe.",
    "def area(radius):\n    return 3.14159 * radius ** 2\n\nprint(area(2))",
    "\"I never said that,\" she answered, folding the letter twice and putting it back into her coat.",
    "Boil the potatoes in salted water for twenty minutes, drain them, and crush them with butter and warm milk.",
    "The court held that the contract was void because neither party had agreed on the price of the goods.",
    "Photosynthesis turns light, water and carbon dioxide into sugar, and gives off oxygen on the way.",
)  # fmt: skip
_FIRST = 8
"""Positions before this one are left out: released pairs never saw the first tokens of a text."""


@dataclass(frozen=True)
class LayerScore:
    """How well a pair rebuilds the states of one layer.

    Attributes:
        layer: whose block's output was read.
        fve: of the normalised states, against the mean of these rows; failed extractions count as failures.
        cosine: mean of the reconstructions with the states.
        extracted: share of rows with an explanation.
        rows: how many states.
    """

    layer: int
    fve: float
    cosine: float
    extracted: float
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for tables and JSON."""
        return asdict(self)


def score_layers(
    nla: Any, model: Any, tokenizer: Any, texts: Sequence[str] = PASSAGES, rows: int = 48
) -> list[LayerScore]:
    """Verbalize and rebuild the target's states at K − 1, K and K + 1, as far as they exist.

    An index into ``hidden_states`` that is one too low reads the layer before the one that was trained. The official
    quick-start does so; this measures it.

    Args:
        nla: the pair; anything with ``layer``, ``d_model``, ``generate`` and ``reconstruct``.
        model: its target as a ``TransformerBridge`` or ``HookedTransformer``.
        tokenizer: the target's.
        texts: what the target reads.
        rows: how many of its states are taken, evenly among those behind the eighth token of each text.

    Raises:
        InputError: for a target of another width or with too few blocks, or texts without a ninth token.
    """
    check_count("rows", rows)
    layers, width = int(model.cfg.n_layers), int(model.cfg.d_model)
    if width != nla.d_model:
        raise InputError(f"the pair reads vectors of size {nla.d_model}, the target has d_model {width}")
    if nla.layer >= layers:
        raise InputError(f"the pair is of layer {nla.layer}, the target has layers 0 to {layers - 1}")
    chosen = [layer for layer in (nla.layer - 1, nla.layer, nla.layer + 1) if 0 <= layer < layers]
    points, encoder = [f"blocks.{layer}.hook_resid_post" for layer in chosen], TextEncoder(tokenizer, model)
    states: dict[str, list[Tensor]] = {point: [] for point in points}
    for text in check_texts(texts):
        ids = encoder(text).ids
        if len(ids) <= _FIRST:
            continue
        tokens = torch.tensor([ids], device=next(model.parameters()).device)
        reading = read(model, tokens, points, slice(_FIRST, None))
        for point in points:
            states[point].append(reading[point].float().cpu())
    there = sum(map(len, states[points[0]]))
    if there < 2:
        raise InputError(f"the texts have fewer than two tokens behind the first {_FIRST}; give longer ones")
    taken = torch.linspace(0, there - 1, min(rows, there)).round().long()
    return [_score(nla, layer, torch.cat(states[point])[taken]) for layer, point in zip(chosen, points, strict=True)]


def best_layer(scores: Sequence[LayerScore]) -> int:
    """The layer with the highest FVE."""
    return max(scores, key=lambda score: score.fve).layer


def _score(nla: Any, layer: int, states: Tensor) -> LayerScore:
    found = nla.generate(states)
    texts = [text.strip() or "." for text in found.texts]
    rebuilt, failed = nla.reconstruct(texts), ~found.extracted
    share = float(fve(rebuilt, states, failed=failed))
    return LayerScore(layer, share, float(cosine(rebuilt, states).mean()), float(found.extracted.float().mean()),
                      len(states))  # fmt: skip
