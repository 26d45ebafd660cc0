"""What is known of a model from one short run of it: how its blocks and its read-out work. Found once, remembered."""

import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.blocks import BlockForm, Branch, solve_block
from tl_nla.model.norms import parameter
from tl_nla.model.probe import lock_of, muted, probe
from tl_nla.model.readout import ReadOut, solve_readout


@dataclass(frozen=True)
class ModelFacts:
    """How a model is put together, as its own numbers show.

    Attributes:
        blocks: the form of every block.
        readout: what follows the last block; its fit is bad where that is more than a norm and an unembedding.
    """

    blocks: tuple[BlockForm, ...]
    readout: ReadOut


_known: "weakref.WeakKeyDictionary[Any, tuple[Any, ModelFacts | str]]" = weakref.WeakKeyDictionary()


def facts_of(model: Any) -> ModelFacts:
    """The facts of a model, from a run of a few tokens the first time and from memory later.

    They are found again when the model's precision, its weights' place, its TransformerLens mode or autocast changes.
    Hooks of the user are left aside during the run. A model that cannot be used is not tried twice either.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer``.

    Raises:
        InputError: when the model drops out activations at random, or cannot be run on token ids.
    """
    if not isinstance(model, nn.Module):
        check_model(model)
    state = fingerprint(model)
    if model not in _known or _known[model][0] != state:
        check_model(model)
        check_deterministic(model)
        try:
            _known[model] = state, _found(model)
        except InputError as error:
            _known[model] = state, str(error)
            raise
    known = _known[model][1]
    if isinstance(known, str):
        raise InputError(known)
    return known


def _found(model: Any) -> ModelFacts:
    values, logits = probe(model)
    blocks = tuple(
        _named(model, solve_block(layer, values, [*numbers(model), *_own_numbers(model.blocks[layer])]))
        for layer in range(int(model.cfg.n_layers))
    )
    last = values.get(f"blocks.{len(blocks) - 1}.hook_resid_post")
    if last is None:
        raise InputError(
            f"the blocks of {type(model).__name__} hand on no single residual stream [batch, pos, {model.cfg.d_model}] "
            "(several streams, or another width), so its writes cannot be told apart. Its hook points can still be "
            "read with run_with_cache"
        )
    with lock_of(model), muted(model):
        return ModelFacts(blocks, solve_readout(model, last, logits))


def check_model(model: Any) -> None:
    """Refuse what has no row of blocks with hook points.

    Raises:
        InputError: saying what was given and what would be right.
    """
    missing = [name for name in ("cfg", "hook_dict", "blocks") if not _has(model, name)]
    if missing:
        raise InputError(
            f"{type(model).__name__} has no {missing[0]}: give a HookedTransformer or TransformerBridge with one row "
            "of blocks; a Hugging Face model becomes one by TransformerBridge.boot_transformers"
        )


def _has(model: Any, name: str) -> bool:
    try:
        return getattr(model, name, None) is not None
    except (RuntimeError, KeyError, ValueError):
        return False


def check_deterministic(model: Any) -> None:
    """Refuse models in training mode that would drop out activations at random.

    Raises:
        InputError: saying what to call.
    """
    modules = any(module.training and module.p > 0 for module in model.modules() if isinstance(module, nn.Dropout))
    original = getattr(model, "original_model", None)
    functional = bool(getattr(original, "training", False)) and any(
        isinstance(value, float) and value > 0 for name, value in _config_values(model) if "drop" in name
    )
    if modules or functional:
        raise InputError("the model is in training mode and drops out activations at random; call model.eval() first")


def numbers(model: Any) -> list[float]:
    """Numbers of the configuration that a residual multiplier may equal."""
    found = {
        float(value)
        for name, value in _config_values(model)
        if re.search(r"multiplier|scal", name) and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return sorted(number for number in found if number > 0)


def _config_values(model: Any) -> Iterator[tuple[str, Any]]:
    config = getattr(getattr(model, "original_model", None), "config", None)
    for owner in (config, getattr(config, "text_config", None)):
        yield from (vars(owner) if owner is not None else {}).items()


def _own_numbers(block: Any) -> list[float]:
    """Parameters and buffers of a block that are one number, such as Gemma 4's layer scalar."""
    original = getattr(block, "_original_component", None) or getattr(block, "original_component", None) or block
    values = [*original.named_parameters(recurse=False), *original.named_buffers(recurse=False)]
    return [float(value.detach()) for _, value in values if value.numel() == 1 and value.is_floating_point()]


def _named(model: Any, form: BlockForm) -> BlockForm:
    """TransformerLens gives some mixers the attention's name: what has no attention module is called a mixer."""
    if hasattr(model.blocks[form.layer], "attn"):
        return form
    renamed = [replace(branch, kind="mixer") if branch.kind == "attn" else branch for branch in form.branches]
    return replace(form, branches=tuple(renamed))


def fingerprint(model: Any) -> tuple[Any, ...]:
    """What the facts of a model depend on and what is quickly compared."""
    first = parameter(getattr(model, "embed", None), "weight", "W_E")  # quickly found, unlike the first of all
    first = first if isinstance(first, Tensor) else next(iter(model.parameters()), torch.zeros(()))
    gain = parameter(getattr(model, "ln_final", None), "weight", "w")
    version = (gain.data_ptr(), gain._version) if isinstance(gain, Tensor) else None
    cast = torch.is_autocast_enabled(first.device.type) and torch.get_autocast_dtype(first.device.type)
    return first.dtype, first.device, bool(getattr(model, "compatibility_mode", False)), cast, version


def block_form(model: Any, layer: int) -> BlockForm:
    """The form of one block.

    Raises:
        InputError: when no sum of parts reproduces the block; names the figure and what can still be read.
    """
    form = facts_of(model).blocks[layer]
    if not form.branches:
        raise InputError(
            f"blocks.{layer} of {type(model).__name__} is not a sum of its input and of parts that hooks show "
            f"(best attempt {form.fit}). Read the whole block 'blocks.{layer}' or its states instead"
        )
    return form


def branches_of(model: Any, layer: int, kind: str) -> tuple[BlockForm, list[Branch]]:
    """A block's form, and its parts of one kind.

    Raises:
        InputError: when the block has no such part; names those that it has.
    """
    form = block_form(model, layer)
    own = [branch for branch in form.branches if branch.kind == kind]
    if not own:
        has = ", ".join(f"'blocks.{layer}.{other}'" for other in form.kinds)
        raise InputError(f"blocks.{layer} of this model has no part {kind!r}; it has {has}")
    return form, own
