"""What a forward pass of a model holds, by its own code as TransformerLens runs it, on tensors without contents."""

from typing import Any

import torch

from tl_nla.benchmark.dry_run import language_model, shapes_only
from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.model.narrow import unread_logits


@torch.no_grad()
def pass_peak(config: Any, dtype: torch.dtype, texts: int, tokens: int) -> int | None:
    """Most bytes alive during a pass whose logits nobody reads, beside the weights.

    Families differ: some take the softmax of attention in their own precision, some in float32, some compute no scores.

    Returns:
        The bytes; ``None`` where the model cannot be run without contents, or TransformerLens does not know it.
    """
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    plain = language_model(config, dtype).eval()
    name = next(iter(getattr(config, "architectures", None) or ()), type(plain).__name__)
    try:
        with shapes_only(plain):
            model = build_bridge_from_module(
                plain, name, hf_config=config, tokenizer=None, dtype=dtype, device="cpu"
            ).eval()
            known = [*model.parameters(), *model.buffers()]
            with PeakMemory(known) as memory, unread_logits(model):
                model(torch.zeros(texts, tokens, dtype=torch.long))
    except Exception:  # whatever a family's code does with numbers that are not there
        return None
    return memory.peak
