"""Models and tokenizers from local folders or the hub: safetensors only, no code of others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tl_nla.errors import InputError
from tl_nla.model.families import final_norm_name, text_backbone, text_causal_lm
from tl_nla.model.files import check_weights, first_line, local_folder, read_json
from tl_nla.model.lora import SETTINGS, adapter_base, merge_adapter
from tl_nla.model.placement import Placement
from tl_nla.model.quantised import dequantised, quiet_libraries

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer in ``folder``.

    Raises:
        InputError: when there is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    if not any((Path(folder) / name).is_file() for name in TOKENIZERS):
        raise InputError(f"no usable tokenizer in {folder}; one of {', '.join(TOKENIZERS)} is needed")
    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exceptions on damaged files
        raise InputError(
            f"no usable tokenizer in {folder} ({type(error).__name__}: {first_line(error)}); its files are damaged, or "
            "of a kind that transformers does not know"
        ) from error


def load_causal_lm(
    name: str | Path, dtype: torch.dtype | None = None, headless: bool = False, placement: Placement | None = None
) -> Any:
    """A Hugging Face causal language model from safetensors, PEFT adapters merged in.

    Args:
        name: local folder or hub id; a folder with ``adapter_config.json`` is an adapter on its base model.
        dtype: of the weights; as stored when ``None``.
        headless: the folder is a reconstructor's, which has neither final norm nor language-model head.
        placement: devices and quantization of the weights, on the CPU and plain when ``None``; its precision counts
            where ``dtype`` is ``None``.

    Raises:
        InputError: when config or weights are missing, damaged, incomplete, no numbers or pickles; for an adapter that
            would have to be merged into quantised weights.
    """
    folder = local_folder(name)
    placement = placement or Placement("auto")
    dtype = dtype or placement.torch_dtype
    if (folder / SETTINGS).is_file():
        if placement.quantization is not None:
            raise InputError(
                f"{folder} is an adapter, which is merged into its base, and quantization is "
                f"{placement.quantization!r}; load it without quantization, save it, and load what was saved"
            )
        return merge_adapter(load_causal_lm(adapter_base(folder), dtype, placement=placement), folder)
    from transformers import AutoModelForCausalLM

    check_weights(folder)
    try:
        with quiet(), quiet_libraries():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=dtype or "auto", use_safetensors=True, trust_remote_code=False,
                output_loading_info=True, **placement.settings(),
            )  # fmt: skip
    except Exception as error:  # whatever transformers meets in a damaged or unknown configuration
        raise InputError(f"{folder} holds no usable language model: {_reason(folder, error)}") from error
    model, info = loaded
    _check_complete(folder, model, set(info["missing_keys"]), headless)
    _check_finite(folder, model)
    return with_score_cap(text_causal_lm(model)).eval()


def with_score_cap(model: Any) -> Any:
    """The model, its attention spelled out where torch's fused one would leave out a cap of the scores.

    Gemma 2 squashes its attention scores; transformers 5.20 leaves that out by default, 5.23 does not.
    """
    if getattr(model.config, "attn_logit_softcapping", None) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")
    return model


def _check_complete(folder: Path, model: Any, missing: set[str], headless: bool) -> None:
    """Nothing may be left at the random values that transformers gives to weights that it did not find."""
    allowed: tuple[nn.Module, ...] = ()
    if headless:
        backbone = text_backbone(model)
        allowed = (getattr(backbone, final_norm_name(backbone)), model.get_output_embeddings())
    names = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    missing -= {names[id(parameter)] for module in allowed for parameter in module.parameters()}
    if missing:
        some = ", ".join(sorted(missing)[:3])
        raise InputError(f"the weights in {folder} lack {len(missing)} tensors ({some}); the export is incomplete")


def _check_finite(folder: Path, model: Any) -> None:
    """A sum shows one bad weight among millions, and costs no copy of them."""
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            continue
        numbers = dequantised(parameter)
        if numbers.is_floating_point() and not torch.isfinite(numbers.sum(dtype=torch.float32)):
            raise InputError(f"the weights in {folder} hold NaN or infinite values ({name}); the export was damaged")


def _reason(folder: Path, error: Exception) -> str:
    """What transformers says, where that helps; its own words for the two commonest causes do not."""
    text = " ".join(str(error).split())
    if "ignore_mismatched_sizes" in text:
        return "the weights have other shapes than config.json says; they belong to another model"
    if text.startswith("Unrecognized configuration class"):
        kind = read_json(folder / "config.json").get("model_type")
        return f"model type {kind!r} is no causal language model of this version of transformers"
    return text[:300]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and reports of transformers while it loads or saves."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
