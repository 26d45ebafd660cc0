"""SmolLM2 with all that is made for it, loaded by one call."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tl_nla.model.placement import Placement
from tl_nla.model.targets import load_target
from tl_nla.smollm2.machine import best_precision
from tl_nla.smollm2.weights import find_weights

NAME = "smollm2"


@dataclass(frozen=True)
class SmolLM2:
    """SmolLM2-135M-Instruct: 30 layers, 9 heads (3 of keys and values), width 576, 49,152 tokens.

    Attributes:
        model: as a ``TransformerBridge``, in evaluation mode, gradients off.
        tokenizer: its tokenizer.
        folder: where the weights were read from.
    """

    model: Any
    tokenizer: Any
    folder: Path

    @cached_property
    def nla(self) -> Any:
        """The natural language autoencoder of layer 16 (:class:`tl_nla.NLA`), loaded when first asked for.

        Raises:
            InputError: when the model is not the one that it was trained on.
        """
        from tl_nla.smollm2.nla import load_nla

        return load_nla(self.model, self.folder)

    @cached_property
    def oracle(self) -> Any:
        """The shipped diff oracle (:func:`tl_nla.smollm2.oracle.shipped_oracle`), loaded when first asked for.

        Raises:
            InputError: when this installation lacks it, or the folder's weights are another model's.
        """
        from tl_nla.smollm2.oracle import shipped_oracle

        return shipped_oracle(self.model)


def load_smollm2(folder: str | Path | None = None, dtype: str | None = None, device: str | None = None) -> SmolLM2:
    """Load SmolLM2-135M-Instruct.

    Args:
        folder: with the weights; see :func:`tl_nla.smollm2.find_weights` for where they are looked for without one.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (as stored); what runs fastest on this
            machine when ``None``: bfloat16 with AMX, else float32.
        device: such as ``"cuda"``; the CPU when ``None``.

    Raises:
        InputError: when the weights cannot be found or loaded; the message says how to get them.

    Example:
        >>> smol = tl_nla.load_smollm2()
        >>> smol.model.generate("The capital of France is", max_new_tokens=1)
    """
    path = find_weights(folder)
    target = load_target(path, placement=Placement(dtype or best_precision(), device))
    return SmolLM2(target.model, target.tokenizer, path)
