"""Lenses as word lists: the tokens that a state is nearest to, as many as the verbalizer's words."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.words import Arm
from tl_nla.data.progress import tell
from tl_nla.errors import InputError
from tl_nla.model.facts import facts_of
from tl_nla.model.targets import Target

_LARGEST_ON_CPU = 1024
"""d_model up to which a Jacobian lens is fitted without a GPU: each text takes d_model backward passes."""
_SMALL, _PROMPTS, _FEW = 256, 24, 8
"""Texts that it is fitted on up to this d_model, and above it."""
_LONGEST, _SKIPPED = 48, 4
_CHUNK = 64


def logit_lens_arm(target: Target) -> Arm:
    """The tokens that the model's own read-out finds in the state (or in the write)."""
    return Arm("logit_lens", _lister(target, lambda acts: acts))


def jacobian_lens_arm(target: Target, layer: int, texts: list[str]) -> Arm:
    """The same behind the mean Jacobian from the layer to the last one, which TransformerLens fits, in float32.

    A model in half precision is copied for it, up to a d_model of 1,024. A larger one is fitted as it is.

    Raises:
        InputError: saying why it is left out.
    """
    size = int(target.model.cfg.d_model)
    if size > _LARGEST_ON_CPU and not torch.cuda.is_available():
        raise InputError(
            f"the Jacobian lens of d_model {size} takes {size} backward passes a text, hours without a GPU"
        )
    if layer >= int(target.model.cfg.n_layers) - 1:
        raise InputError("behind the last block the Jacobian lens is the logit lens")
    fitted: list[Any] = []

    def transport(acts: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        from transformer_lens.tools.analysis import JacobianLens

        if not fitted:
            tell("fitting the Jacobian lens")
            fitted.append(JacobianLens.fit(
                _precise(target.model, size), texts[: _PROMPTS if size <= _SMALL else _FEW], corpus="benchmark",
                source_layers=[layer], dim_batch=32, max_seq_len=_LONGEST, skip_first_positions=_SKIPPED,
                show_progress=False,
            ))  # fmt: skip
        return fitted[0].transport(acts, layer)

    return Arm("jacobian_lens", _lister(target, transport))


def _precise(model: Any, size: int) -> Any:
    """A copy in float32 of a small model in half precision, whose gradients would be added up in half precision."""
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    return copy.deepcopy(model).float() if half and size <= _LARGEST_ON_CPU else model


def _lister(target: Target, change: Callable[[Tensor], Tensor]) -> Callable[[Rows, list[int]], list[str]]:
    def say(rows: Rows, lengths: list[int]) -> list[str]:
        readout, texts = facts_of(target.model).readout, []
        weight = next(target.model.parameters())
        for first in range(0, len(rows), _CHUNK):
            part = change(rows.acts[first : first + _CHUNK].to(weight.device))
            logits = readout.logits(part.to(weight.dtype)[None])[0].float().cpu()
            wanted = lengths[first : first + _CHUNK]
            best = logits.topk(min(logits.shape[1], 2 * max(1, *wanted) + 10)).indices.tolist()
            texts += [word_list(target.tokenizer, ids, many) for ids, many in zip(best, wanted, strict=True)]
        return texts

    return say


def word_list(tokenizer: Any, ids: list[int], many: int) -> str:
    """Different printable tokens as words, best first."""
    words: dict[str, None] = {}
    for token in ids:
        text = str(tokenizer.decode([token])).strip()
        if text and text.isprintable() and "�" not in text and token not in tokenizer.all_special_ids:
            words.setdefault(text)
        if len(words) == many:
            break
    return " ".join(words)
