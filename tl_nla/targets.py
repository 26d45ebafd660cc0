"""Target models and fresh pairs by name: the embedded default, a local folder, or a hub id."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tl_nla.errors import InputError, unknown
from tl_nla.model.text import TextEncoder
from tl_nla.nla import NLA, InjectionConfig, load_causal_lm
from tl_nla.nla import prompts as prompt_templates
from tl_nla.nla.files import local_folder
from tl_nla.nla.loading import load_tokenizer
from tl_nla.nla.marker import choose_marker

TINY = "tiny"
PRECISIONS = ("float32", "bfloat16", "float16")
_WEIGHTS = Path(__file__).parent / "storyworld" / "weights"


@dataclass(frozen=True)
class Target:
    """A model to look into.

    Attributes:
        name: what it was asked for by.
        model: a ``TransformerBridge`` in evaluation mode, gradients off.
        tokenizer: its tokenizer.
    """

    name: str
    model: Any
    tokenizer: Any


def model_folder(name: str | Path) -> Path:
    """Folder of the named model; the embedded target's for ``"tiny"``.

    Raises:
        InputError: when there is no such folder and the hub has none either.
    """
    if str(name) == TINY:
        folder = _WEIGHTS / "target"
        if not (folder / "model.safetensors").is_file():
            raise InputError(f"the embedded weights are missing from {folder}; run 'tl-nla rebuild-tiny'")
        return folder
    return local_folder(name)


def load_target(name: str | Path = TINY, prepend_bos: bool | None = None, dtype: str = "float32") -> Target:
    """Load a model for reading.

    Args:
        name: ``"tiny"``, a local folder with a Hugging Face model, or a hub id.
        dtype: precision of the weights, one of ``PRECISIONS``.
        prepend_bos: whether a begin token stands before every text that this model is given
            (``cfg.default_prepend_bos``); what TransformerLens does with its family when ``None``.

    Raises:
        InputError: when it cannot be loaded; the message names the file at fault. Also for a begin token that the
            tokenizer does not have.
    """
    if dtype not in PRECISIONS:
        raise unknown("precision", dtype, PRECISIONS)
    folder = model_folder(name)
    target = boot_target(str(name), folder, load_causal_lm(folder, getattr(torch, dtype)), load_tokenizer(folder))
    if prepend_bos is not None:
        TextEncoder(target.tokenizer, target.model, prepend_bos)
        target.model.cfg.default_prepend_bos = prepend_bos
    return target


def boot_target(name: str, folder: Path, model: Any, tokenizer: Any) -> Target:
    """Wrap a Hugging Face model (which the bridge rewrites in place) for TransformerLens.

    Raises:
        InputError: when TransformerLens does not know its architecture.
    """
    from transformer_lens.model_bridge import TransformerBridge

    dtype = next(model.parameters()).dtype
    try:
        bridge = TransformerBridge.boot_transformers(
            str(folder), hf_model=model, tokenizer=tokenizer, device="cpu", dtype=dtype
        )
    except Exception as error:  # unknown architectures end in errors of many kinds
        reason = " ".join(str(error).split()).partition(" Available architectures")[0][:200]  # they are a hundred
        raise InputError(f"TransformerLens cannot wrap the {type(model).__name__} in {folder}: {reason}") from error
    bridge.eval()
    for parameter in bridge.parameters():
        parameter.requires_grad_(False)
    return Target(name, bridge, tokenizer)


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
    return NLA.create(model, tokenizer, layer, config, av_template, ar_template, injection_char, str(name))


@torch.no_grad()
def mean_embedding_norm(model: Any) -> float:
    """Mean L2 norm of the token embeddings as the model's first block sees them."""
    ids = torch.arange(model.get_input_embeddings().num_embeddings)
    return float(model.get_input_embeddings()(ids).float().norm(dim=-1).mean())
