"""Target models by name: the embedded default, a local folder, or a hub id."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl_nla.errors import InputError
from tl_nla.model.files import local_folder
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.no_installs import nothing_installed
from tl_nla.model.placement import Placement
from tl_nla.model.processor import MATRIX_UNIT, VECTOR_UNIT, processor_units
from tl_nla.model.text import TextEncoder
from tl_nla.plugins import embedded, named, part

TINY = "tiny"


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

    A named one, such as ``"smollm2"``, is looked for where its plug-in says.

    Raises:
        InputError: when there is no such folder and the hub has none either.
    """
    plugin = named(name)
    if plugin is not None:
        return Path(plugin.target_folder())
    return part(str(name), "target") if embedded(name) is not None else local_folder(name)


def usual_precision(name: str | Path, other: str) -> str:
    """The precision that a named model (``"smollm2"``) has on this machine; ``other`` for all other models."""
    plugin = named(name)
    return other if plugin is None else str(plugin.precision())


def reading_precision(name: str | Path) -> str:
    """The precision in which many texts are read fastest.

    That is bfloat16 for a named model where the processor has units for it, else :func:`usual_precision`. On an AMD
    EPYC with ``avx512_bf16`` one thread reads 1,448 tokens of SmolLM2 a second in bfloat16 and 399 in float32.
    """
    fast = named(name) is not None and not {VECTOR_UNIT, MATRIX_UNIT}.isdisjoint(processor_units())
    return "bfloat16" if fast else usual_precision(name, "float32")


def load(
    name: str | Path, dtype: str = "auto", device: str | None = None, device_map: Any = None,
    quantization: str | None = None, prepend_bos: bool | None = None,
) -> Any:  # fmt: skip
    """Load a model for everything in this package.

    Args:
        name: ``"tiny"``, ``"smollm2"``, a local folder with a Hugging Face model, or a hub id.
        dtype: precision of the weights. ``"auto"`` is what the model's configuration says, which is ``"bfloat16"`` for
            most models of today, and for ``"smollm2"`` what this machine runs fastest.
        device: such as ``"cuda"``; the CPU when ``None``.
        device_map: layers on several devices; see :class:`tl_nla.model.placement.Placement`.
        quantization: ``"int8"`` (also on a CPU) or ``"nf4"`` (for GPUs): linear layers in eight or four bits. Writes of
            heads are then those of the rounded weights, which is what the model computes with.
        prepend_bos: whether a begin token stands before every text; what TransformerLens does when ``None``.

    Returns:
        A ``TransformerBridge`` in evaluation mode, gradients off, with its tokenizer as ``.tokenizer``.

    Raises:
        InputError: when it cannot be loaded; the message says what to give instead.

    Example:
        >>> model = tl_nla.load("tiny", dtype="float32")
        >>> print(tl_nla.check(model))
    """
    if dtype == "auto":
        dtype = usual_precision(name, dtype)
    return load_target(name, prepend_bos, Placement(dtype, device, device_map, quantization)).model


def load_target(name: str | Path = TINY, prepend_bos: bool | None = None, placement: Placement | None = None) -> Target:
    """Load a model with its name and tokenizer.

    Args:
        name: as of :func:`load`.
        prepend_bos: whether a begin token stands before every text that this model is given
            (``cfg.default_prepend_bos``); what TransformerLens does with its family when ``None``.
        placement: precision and devices; on the CPU when ``None``, in float32 or, for a named model, in what this
            machine runs fastest.

    Raises:
        InputError: when it cannot be loaded; the message names the file at fault. Also for a begin token that the
            tokenizer does not have.
    """
    folder = model_folder(name)
    model = load_causal_lm(folder, placement=placement or Placement(usual_precision(name, "float32")))
    target = boot_target(str(name), folder, model, load_tokenizer(folder))
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

    weight = next(model.parameters())
    dtype, placed = weight.dtype, {} if getattr(model, "hf_device_map", None) else {"device": str(weight.device)}
    if not model.config.architectures:  # the text part of a model that sees images does not say
        model.config.architectures = [type(model).__name__]
    try:
        with nothing_installed():
            bridge = TransformerBridge.boot_transformers(
                str(folder), hf_model=model, tokenizer=tokenizer, dtype=dtype, **placed
            )
    except Exception as error:  # unknown architectures end in errors of many kinds
        reason = " ".join(str(error).split()).partition(" Available architectures")[0][:200]  # they are a hundred
        raise InputError(f"TransformerLens cannot wrap the {type(model).__name__} in {folder}: {reason}") from error
    bridge.eval()
    for parameter in bridge.parameters():
        parameter.requires_grad_(False)
    return Target(name, bridge, tokenizer)
