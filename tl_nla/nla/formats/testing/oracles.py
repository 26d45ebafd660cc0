"""Writers of tiny oracles: activation oracles of one or several layers, an oracle lens, Transluce's explainers."""

from pathlib import Path
from typing import Any

from tl_nla.errors import unknown
from tl_nla.nla.formats.testing.pairs import new_folder
from tl_nla.nla.formats.testing.tiny import (
    MARKER,
    Written,
    tiny_model,
    tiny_tokenizer,
    write_adapter,
    write_json,
    write_yaml,
)

LENS_TEMPLATE = (
    "A state of layer 20 stands between tags: <activation>{injection_char}</activation>. Name what it holds, each "
    "thing on a line with '- ' in front."
)


def write_activation_oracle(
    folder: str | Path, layers: str = "one", kind: str = "qwen3", seed: int = 0, **settings: Any
) -> Written:
    """A tiny activation oracle: an adapter with ``ao_config.json``, and a copy of the base's ``config.json``.

    Args:
        folder: new or empty.
        layers: ``one`` (asked about layer 1 or 2) or ``several`` (``mlao_config.json``, layers 0 and 2 together).
        kind: architecture.
        seed: of the weights.
        settings: keys of the configuration that differ.

    Raises:
        InputError: when something lies there, or for other layers.

    Example:
        >>> written = write_activation_oracle("tiny_oracle")
        >>> tl_nla.ActivationOracle.from_pretrained(written.folder)
    """
    if layers not in ("one", "several"):
        raise unknown("layers", layers, ("one", "several"))
    path, base = _base(folder, kind, seed)
    write_adapter(base, path, seed + 1, r=4, lora_alpha=8)
    (path / "config.json").write_text((base / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    if layers == "several":
        write_json(path / "mlao_config.json", {"act_layers": [0, 2], "model_name": str(base), **settings})
        return Written("multi_layer_oracle", path, None, base, 2)
    told = {
        "special_token": " ?", "hook_onto_layer": 1, "steering_coefficient": 1.0, "model_name": str(base),
        "act_layer_combinations": [[1], [2]], "layer_combinations": [[25], [50]], "git_commit": "0" * 40,
        "generation_kwargs": {"do_sample": False, "temperature": 0.0, "max_new_tokens": 20},
    }  # fmt: skip
    write_json(path / "ao_config.json", {**told, **settings})
    return Written("activation_oracle", path, None, base, 1)


def write_oracle_lens(folder: str | Path, kind: str = "qwen3", seed: int = 0, **settings: Any) -> Written:
    """A tiny oracle lens: an adapter with ``meta.json`` and a sidecar whose template names layer 20.

    Args:
        folder: new or empty.
        kind: architecture.
        seed: of the weights.
        settings: keys of ``meta.json`` that differ.

    Raises:
        InputError: when something lies there.
    """
    path, base = _base(folder, kind, seed)
    write_adapter(base, path, seed + 1, r=4, lora_alpha=8)
    write_json(path / "meta.json", {"transform": "unit", "alpha": 16.0, "layers": [1, 2, 3], **settings})
    tokens = {"injection_char": MARKER}
    extraction = {"injection_scale": None}
    write_yaml(path / "nla_meta.yaml", {"kind": "nla_model", "schema_version": 2, "role": "av", "d_model": 32,
                                        "extraction": extraction, "tokens": tokens,
                                        "prompt_templates": {"av": LENS_TEMPLATE}})  # fmt: skip
    return Written("oracle_lens", path, None, base, 1)


def write_transluce(folder: str | Path, kind: str = "llama", seed: int = 0) -> Written:
    """A tiny explainer of Transluce's: whole weights under a name with ``features_explain``, and nothing else.

    Args:
        folder: new or empty.
        kind: architecture.
        seed: of the weights.

    Raises:
        InputError: when something lies there.
    """
    path = new_folder(folder) / "features_explain_llama_tiny"
    tiny_model(kind, seed).save_pretrained(path)
    tiny_tokenizer(begin=True).save_pretrained(path)
    return Written("transluce", path, None, path, 1)


def _base(folder: str | Path, kind: str, seed: int) -> tuple[Path, Path]:
    root = new_folder(folder)
    tiny_model(kind, seed).save_pretrained(root / "base")
    tiny_tokenizer(kind in ("llama", "gemma3")).save_pretrained(root / "base")
    return root / "oracle", root / "base"
