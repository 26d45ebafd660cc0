"""Fresh pairs: untrained, made from a model by name."""

from pathlib import Path
from typing import Any, Literal

import torch

from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.targets import model_folder
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.nla import prompts as prompt_templates
from tl_nla.nla.marker import choose_marker


def fresh_nla(
    name: str | Path, layer: int, injection: Literal["constant", "sqrt_d", "raw", "affine", "additive"], slots: int = 1,
    injection_char: str | None = None,
) -> NLA:  # fmt: skip
    """An untrained pair made from the named model, with the templates that suit it.

    The injected norm is the mean norm of the model's token embeddings, so that a vector enters at the size of a
    word.

    Args:
        name: ``"tiny"``, a local folder or a hub id.
        layer: block whose output is explained.
        injection: how vectors enter the verbalizer.
        slots: marker tokens that carry the vector.
        injection_char: marker; see :meth:`NLA.create`.

    Raises:
        InputError: when the model cannot be loaded, or the marker cannot be used; the latter before it is loaded.
    """
    folder = model_folder(name)
    tokenizer = load_tokenizer(folder)
    short = prompt_templates.has_tags(tokenizer)
    av_template = prompt_templates.TINY_AV_TEMPLATE if short else prompt_templates.AV_TEMPLATE
    ar_template = prompt_templates.TINY_AR_TEMPLATE if short else prompt_templates.AR_TEMPLATE
    choose_marker(tokenizer, [av_template], [slots], injection_char)
    model = load_causal_lm(folder, torch.float32)
    config = InjectionConfig(injection, mean_embedding_norm(model), slots)
    nla = NLA.create(model, tokenizer, layer, config, av_template, ar_template, injection_char)
    nla.base = str(name)
    return nla


@torch.no_grad()
def mean_embedding_norm(model: Any) -> float:
    """Mean L2 norm of the token embeddings as the model's first block sees them."""
    ids = torch.arange(model.get_input_embeddings().num_embeddings)
    return float(model.get_input_embeddings()(ids).float().norm(dim=-1).mean())
