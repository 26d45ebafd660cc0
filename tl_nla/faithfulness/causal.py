"""Causal claims: take what one claim adds out of the state, run the model on, and see whether its word loses.

The direction of a claim is what the reconstructor reads from the whole explanation minus what it reads without that
claim. Subtracted from the state, the claimed word should become less likely, and the words of other claims should not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.data.progress import told
from tl_nla.errors import InputError
from tl_nla.faithfulness.edits import Edit
from tl_nla.faithfulness.scoring import Reconstruct
from tl_nla.metrics import normalise
from tl_nla.model.hooks import tap


def claim_directions(
    reconstruct: Reconstruct, texts: Sequence[str], edits: Sequence[Edit], acts: Float[Tensor, "n d_model"]
) -> Float[Tensor, "edits d_model"]:
    """What each deleted claim adds to the reconstruction, at the norm of the state.

    Args:
        reconstruct: the reconstructor.
        texts: explanations, one a state.
        edits: from :func:`tl_nla.faithfulness.edits.deletions`.
        acts: the states.
    """
    whole = normalise(reconstruct(list(texts)))
    without = normalise(reconstruct([edit.text for edit in edits]))
    rows = torch.tensor([edit.row for edit in edits], dtype=torch.long)
    scale = acts.norm(dim=-1, keepdim=True) / acts.shape[-1] ** 0.5
    return (whole[rows] - without) * scale[rows]


@torch.no_grad()
def outputs_after(
    model: Any, tokens: Sequence[Sequence[int]], positions: Sequence[int], point: str,
    changes: Float[Tensor, "n d_model"], batch_size: int = 128,
) -> Float[Tensor, "n vocab"]:  # fmt: skip
    """Next-token log-probabilities when a vector is added to one state of each text.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokens: token ids of each text; those behind its position are not read.
        positions: where the change is made and the output read.
        point: hook point of the state, such as ``"blocks.2.hook_resid_post"``.
        changes: what is added to each; zeros give the model's own output.
        batch_size: texts a forward pass.

    Raises:
        InputError: when the arguments differ in length, or a position lies outside its text.
    """
    if not len(tokens) == len(positions) == len(changes):
        raise InputError(f"{len(tokens)} texts, {len(positions)} positions, {len(changes)} changes: give one each")
    for row, position in enumerate(positions):
        if not 0 <= position < len(tokens[row]):
            raise InputError(f"position {position} lies outside text {row} of {len(tokens[row])} tokens")
    device = next(model.parameters()).device
    parts = []
    batches = [range(start, min(start + batch_size, len(tokens))) for start in range(0, len(tokens), batch_size)]
    for batch in told(batches, "changing states"):
        start, stop = batch[0], batch[-1] + 1
        # Nothing behind the position can reach it, so padding on the right is harmless.
        rows = [list(tokens[row][: positions[row] + 1]) for row in range(start, stop)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        index = torch.arange(stop - start, device=device), torch.tensor([len(row) - 1 for row in rows], device=device)

        def add(activation: Tensor, hook: Any, chunk: Tensor = changes[start:stop], at: Any = index) -> Tensor:
            changed = activation.clone()
            changed[at] += chunk.to(activation)
            return changed

        with tap(model, [(point, add)]):
            logits = model(ids)
        parts.append(logits[index].float().log_softmax(-1).cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class CausalEffect:
    """What one claim's removal from the state did.

    Attributes:
        row: which explanation.
        kind: type of the claim.
        verdict: of the claim.
        own: change of the log-probability of the claim's own word, nats; negative is what the claim says.
        others: mean change for the words of the other claims of the same explanation; ``None`` without others.
        control: change of its own word when a random direction of the same norm is subtracted instead.
        kl: KL divergence of the output from the model's own, nats.
    """

    row: int
    kind: str
    verdict: str | None
    own: float
    others: float | None
    control: float
    kl: float


@dataclass(frozen=True)
class ExplainedTexts:
    """Where the explained states were read.

    Attributes:
        tokens: token ids of each text.
        positions: explained position of each text.
        point: hook point of the states.
    """

    tokens: Sequence[Sequence[int]]
    positions: Sequence[int]
    point: str


def causal_effects(
    model: Any, texts: ExplainedTexts, edits: Sequence[Edit], directions: Float[Tensor, "edits d_model"],
    words: Sequence[int], generator: torch.Generator,
) -> list[CausalEffect]:  # fmt: skip
    """Subtract every claim's direction from its state and run the model on.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        texts: where the states were read.
        edits: the deleted claims.
        directions: of :func:`claim_directions`.
        words: for each edit the token that its claim names.
        generator: of the random control directions.
    """
    rows = [edit.row for edit in edits]
    tokens, places = [texts.tokens[row] for row in rows], [texts.positions[row] for row in rows]
    random_directions = torch.randn(directions.shape, generator=generator)
    random_directions *= directions.norm(dim=-1, keepdim=True) / random_directions.norm(dim=-1, keepdim=True)
    clean, removed, control = (
        outputs_after(model, tokens, places, texts.point, change)
        for change in (torch.zeros_like(directions), -directions, -random_directions)
    )
    moved, moved_control = removed - clean, control - clean
    divergence = (clean.exp() * (clean - removed)).sum(-1)
    named: dict[int, list[int]] = {}
    for row, word in zip(rows, words, strict=True):
        named.setdefault(row, []).append(word)
    effects = []
    for place, (edit, word) in enumerate(zip(edits, words, strict=True)):
        rest = [other for other in dict.fromkeys(named[edit.row]) if other != word]
        others = float(moved[place, rest].mean()) if rest else None
        effects.append(CausalEffect(
            edit.row, edit.kind, edit.verdict, float(moved[place, word]), others, float(moved_control[place, word]),
            float(divergence[place]),
        ))  # fmt: skip
    return effects


def claimed_tokens(tokenizer: Any, words: Sequence[str]) -> Int[Tensor, " n"]:
    """First token of each word as it stands inside a text, with its leading space."""
    spaced = [word if word[:1].isspace() else " " + word for word in words]
    return torch.tensor([tokenizer.encode(word, add_special_tokens=False)[0] for word in spaced], dtype=torch.long)
