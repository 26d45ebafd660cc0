"""Target models by name: the embedded default, a local folder, or a hub id."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tl_nla.errors import InputError, unknown
from tl_nla.model.files import local_folder
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.no_installs import nothing_installed
from tl_nla.model.text import TextEncoder
from tl_nla.plugins import embedded, part

TINY = "tiny"
PRECISIONS = ("float32", "bfloat16", "float16")


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
    """Folder of the named model; inside of the package for an embedded one, such as ``"tiny"``.

    Raises:
        InputError: when there is no such folder and the hub has none either.
    """
    return part(name, "target") if embedded(name) is not None else local_folder(name)


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
    """Wrap a Hugging Face model (which the bridge rewrites in place) for TransformerLens; nothing is ever installed.

    Raises:
        InputError: when TransformerLens does not know its architecture.
    """
    from transformer_lens.model_bridge import TransformerBridge

    dtype = next(model.parameters()).dtype
    if not model.config.architectures:  # the text part of a model that sees images does not say
        model.config.architectures = [type(model).__name__]
    try:
        with nothing_installed():
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
