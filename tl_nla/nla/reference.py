"""The frozen warm start that a trained verbalizer is held close to, and LoRA adapters."""

import copy
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError, unknown
from tl_nla.model.families import is_adapted
from tl_nla.model.lora import merge_copy, quiet_peft
from tl_nla.model.placement import known_dtype
from tl_nla.nla.pair import NLA
from tl_nla.nla.rollouts import token_logprobs

_FROZEN = ("float32", "bfloat16")


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter (PEFT) on every linear layer of the blocks.

    Attributes:
        rank: of the adapter.
        alpha: its strength; the update is scaled by alpha / rank, or alpha / sqrt(rank) with ``rank_stabilised``.
        rank_stabilised: rsLoRA.
        targets: names of the layers that get one; all linear layers but the output head by default.
        dtype: precision of the frozen weights, ``"float32"`` or ``"bfloat16"``; as they are when ``None`` (float32 in
            a pair that is loaded by name). Adapters and the reconstructor's head are float32 in any case.

    Raises:
        InputError: for a rank or strength that is not above 0, or another precision.
    """

    rank: int = 16
    alpha: float = 16.0
    rank_stabilised: bool = True
    targets: str | list[str] = "all-linear"
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise InputError(f"LoRA rank is {self.rank} and alpha {self.alpha}; both must be above 0")
        if self.dtype not in (None, *_FROZEN):
            raise unknown("precision of the frozen weights", str(self.dtype), _FROZEN)

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The precision for torch; ``None`` leaves the weights as they are."""
        return known_dtype(self.dtype)


def add_lora(nla: NLA, settings: LoraSettings) -> None:
    """Freeze both parts of a pair and put fresh adapters on them; the reconstructor's head stays trainable.

    An adapter that is there already is merged first, so that switching the fresh one off gives the warm start. The
    functions of both parts are unchanged until the adapters are trained.

    Raises:
        InputError: when PEFT is not installed or no layer fits, or for a small pair, which has adapters of its own.
    """
    if nla.adapted is not None:
        raise InputError("a small pair has adapters of its own, which are trained; leave out the settings of LoRA")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("LoRA training needs PEFT; install the extra: pip install 'tl-nla[lora]'") from error
    verbalizer, reconstructor = nla.verbalizer, nla.reconstructor
    for part, name in ((verbalizer, "model"), (reconstructor, "backbone")):
        model = merge_copy(getattr(part, name)).requires_grad_(False)
        _cast_weights(model, settings.torch_dtype)
        config = LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha,  # type: ignore[arg-type]
            use_rslora=settings.rank_stabilised,
            target_modules=settings.targets if settings.targets == "all-linear" else list(settings.targets),
        )  # fmt: skip
        try:
            with quiet_peft():
                setattr(part, name, get_peft_model(model, config))
        except ValueError as error:
            raise InputError(f"no adapter fits {type(model).__name__}: {' '.join(str(error).split())[:200]}") from error
    verbalizer.injection.requires_grad_(False)


def _cast_weights(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Parameters only: rotary frequencies are buffers, and would lose positions in bfloat16."""
    for parameter in model.parameters() if dtype is not None else ():
        parameter.data = parameter.data.to(dtype)


class FrozenReference:
    """The verbalizer as it was when this was made; no module, so that no checkpoint and no optimiser sees it.

    A fresh adapter is switched off for the pass. In any other case a copy is kept of what is trained: all weights, or
    adapters that were trained before and the injection; frozen weights are shared with the verbalizer.

    Args:
        verbalizer: the warm start.
    """

    def __init__(self, verbalizer: Any) -> None:
        self._live = verbalizer if _fresh(verbalizer) else None
        self._copy = None if self._live is not None else frozen_copy(verbalizer)

    def to(self, device: torch.device) -> "FrozenReference":
        """Move the copy, if there is one."""
        if self._copy is not None:
            self._copy.to(device)
        return self

    @torch.no_grad()
    def logprobs(
        self, acts: Float[Tensor, "n d_model"], ids: Int[Tensor, "n pos"], mask: Bool[Tensor, "n pos"],
        temperature: float = 1.0,
    ) -> Float[Tensor, "n pos"]:  # fmt: skip
        """As :func:`tl_nla.nla.rollouts.token_logprobs`, under the warm start and without gradient."""
        verbalizer = self._copy if self._copy is not None else self._live
        model: Any = verbalizer.model  # type: ignore[union-attr]
        with nullcontext() if self._copy is not None else model.disable_adapter():
            return token_logprobs(verbalizer, acts, ids, mask, temperature)


def _fresh(verbalizer: Any) -> bool:
    """Whether the verbalizer without its adapter is the verbalizer as it is now, and stays so."""
    if not is_adapted(verbalizer.model) or any(p.requires_grad for p in verbalizer.injection.parameters()):
        return False
    return not any(bool(p.any()) for name, p in verbalizer.model.named_parameters() if ".lora_B." in name)


def frozen_copy(verbalizer: Any) -> Any:
    """A copy in evaluation mode whose parameters need no gradient; tokenizer and frozen weights are shared."""
    shared = {id(p): p for p in verbalizer.parameters() if not p.requires_grad}
    shared[id(verbalizer.tokenizer)] = verbalizer.tokenizer
    return copy.deepcopy(verbalizer, shared).eval().requires_grad_(False)


def float32_masters(modules: Iterable[nn.Module]) -> None:
    """Keep every trainable parameter in float32.

    A bfloat16 weight cannot take up an update below 1/256 of its size: most weights would never move at the learning
    rates of this training. Compute in bfloat16 with the Trainer's ``precision="bf16-mixed"``.
    """
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                parameter.data = parameter.data.float()
