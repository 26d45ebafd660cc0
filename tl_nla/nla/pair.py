"""A natural language autoencoder: a verbalizer and the reconstructor that reads its words."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.nla import prompts
from tl_nla.nla.contract import FILE_NAME, Meta, meta_to_yaml, read_meta
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.loading import load_causal_lm, load_tokenizer, local_folder, read_safetensors
from tl_nla.nla.reconstructor import Reconstructor, cut_backbone
from tl_nla.nla.verbalizer import Generation, Verbalizer

_HEAD_FILES = ("value_head.safetensors", "ar_lora_value_head.safetensors")


class NLA(nn.Module):
    """Verbalizer and reconstructor of one layer's states.

    Attributes:
        verbalizer: the AV.
        reconstructor: the AR.
        layer: K; the vectors are outputs of block K (``blocks.K.hook_resid_post``).
    """

    def __init__(self, verbalizer: Verbalizer, reconstructor: Reconstructor, layer: int, base: str = "") -> None:
        super().__init__()
        self.verbalizer, self.reconstructor, self.layer, self.base = verbalizer, reconstructor, layer, base
        if reconstructor.head.out_features != verbalizer.d_model:
            sizes = (verbalizer.d_model, reconstructor.head.out_features)
            raise InputError(f"the verbalizer reads vectors of size {sizes[0]}, the reconstructor writes {sizes[1]}")

    @property
    def d_model(self) -> int:
        """Size of the vectors."""
        return self.verbalizer.d_model

    @classmethod
    def create(
        cls, model: Any, tokenizer: Any, layer: int, injection: InjectionConfig, av_template: str = prompts.AV_TEMPLATE,
        ar_template: str = prompts.AR_TEMPLATE, injection_char: str | None = None, base: str = "",
    ) -> "NLA":  # fmt: skip
        """A pair to be trained, both parts copied from one causal language model.

        Args:
            model: a Hugging Face causal language model; left as it is.
            tokenizer: its tokenizer.
            layer: K.
            injection: how vectors enter the verbalizer.
            av_template: with ``{injection_char}``.
            ar_template: with ``{explanation}``.
            injection_char: marker; the first single-token character of U+3200 to U+33FF when ``None``.
            base: name of the model, for the saved sidecar.
        """
        import copy

        char = injection_char or prompts.choose_injection_char(tokenizer)
        prompt = prompts.build_verbalizer_prompt(tokenizer, av_template, char, injection.slots)
        verbalizer = Verbalizer(copy.deepcopy(model), tokenizer, prompt, injection)
        reconstructor = Reconstructor(cut_backbone(model, layer + 1), tokenizer, ar_template)
        return cls(verbalizer, reconstructor, layer, base)

    @classmethod
    def from_pretrained(cls, av: str | Path, ar: str | Path, dtype: torch.dtype = torch.float32) -> "NLA":
        """Load a pair in the released format.

        Args:
            av: verbalizer folder or hub id.
            ar: reconstructor folder or hub id.
            dtype: of the transformers' weights; the reconstructor's head is always float32.

        Raises:
            InputError: when a file is missing or damaged, or a check of the sidecar fails.
        """
        av_folder, ar_folder = local_folder(av), local_folder(ar)
        av_meta, ar_meta = _meta_of(av_folder, "av"), _meta_of(ar_folder, "ar")
        verbalizer = _load_verbalizer(av_folder, av_meta, dtype)
        reconstructor = _load_reconstructor(ar_folder, ar_meta, av_meta, dtype)
        layers = {meta.layer for meta in (av_meta, ar_meta) if meta.layer is not None}
        if len(layers) > 1:
            raise InputError(f"the verbalizer is of layer {av_meta.layer}, the reconstructor of {ar_meta.layer}")
        layer = layers.pop() if layers else _count_blocks(reconstructor) - 1
        return cls(verbalizer.eval(), reconstructor.eval(), layer, av_meta.base_checkpoint)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write ``folder/av`` and ``folder/ar`` in the released format; each appears whole or not at all.

        Args:
            folder: where to.
            dtype: of the saved transformer weights; head and injection stay float32.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
            parts = {"av": self._write_verbalizer, "ar": self._write_reconstructor}
            for name, write in parts.items():
                write(Path(scratch) / name, dtype)
            for name in parts:
                _replace(Path(scratch) / name, folder / name)

    def verbalize(self, acts: Float[Tensor, "n d_model"], **settings: Any) -> list[str]:
        """Explanations of vectors; ``settings`` as for :meth:`Verbalizer.generate` (greedy by default)."""
        return self.generate(acts, **settings).texts

    def generate(self, acts: Float[Tensor, "n d_model"], **settings: Any) -> Generation:
        """As :meth:`verbalize`, with tokens, log-probabilities and which rows could be extracted."""
        return self.verbalizer.generate(acts, **settings)

    def reconstruct(self, texts: list[str], batch_size: int = 256) -> Float[Tensor, "n d_model"]:
        """Vectors read back from explanations; only their direction was trained."""
        return self.reconstructor.reconstruct(texts, batch_size)

    def _write_verbalizer(self, folder: Path, dtype: torch.dtype) -> None:
        verbalizer = self.verbalizer
        _save_model(verbalizer.model, verbalizer.tokenizer, folder, dtype)
        if list(verbalizer.injection.parameters()):
            state = {name: value.detach().contiguous().float() for name, value in verbalizer.injection.state_dict().items()}
            save_file(state, folder / "injection.safetensors")
        config, prompt = verbalizer.injection.config, verbalizer.prompt
        scale = self.d_model**0.5 if config.kind == "sqrt_d" else config.scale
        meta = Meta(
            role="av", d_model=self.d_model, layer=self.layer, av_template=prompt.template,
            ar_template=self.reconstructor.template, injection_char=prompt.char, injection_token_id=prompt.token_id,
            neighbours=prompt.neighbours, suffix_ids=tuple(self.reconstructor.suffix), injection_scale=scale,
            mse_scale=self.d_model**0.5, injection={"kind": config.kind, "slots": config.slots},
            base_checkpoint=self.base,
        )  # fmt: skip
        (folder / FILE_NAME).write_text(meta_to_yaml(meta), encoding="utf-8")

    def _write_reconstructor(self, folder: Path, dtype: torch.dtype) -> None:
        reconstructor = self.reconstructor
        _save_model(reconstructor.backbone, reconstructor.tokenizer, folder, dtype)
        save_file({"weight": reconstructor.head.weight.detach().float().contiguous()}, folder / _HEAD_FILES[0])
        meta = Meta(
            role="ar", d_model=self.d_model, layer=self.layer, ar_template=reconstructor.template,
            av_template=self.verbalizer.prompt.template, suffix_ids=tuple(reconstructor.suffix),
            mse_scale=self.d_model**0.5, base_checkpoint=self.base,
        )  # fmt: skip
        (folder / FILE_NAME).write_text(meta_to_yaml(meta), encoding="utf-8")


def _meta_of(folder: Path, role: str) -> Meta:
    meta = read_meta(folder)
    if meta.role != role:
        raise InputError(f"{folder} holds the {meta.role!r} part; the {role!r} part was asked for")
    return meta


def _load_verbalizer(folder: Path, meta: Meta, dtype: torch.dtype) -> Verbalizer:
    if meta.av_template is None or meta.injection_char is None:
        raise InputError(f"{folder}/{FILE_NAME} lacks the verbalizer's template or the injection character")
    kind = meta.injection.get("kind", "constant")
    if kind == "constant" and meta.injection_scale is None:
        raise InputError(f"{folder}/{FILE_NAME} has no extraction.injection_scale; a verbalizer has no default for it")
    config = InjectionConfig(kind, meta.injection_scale, int(meta.injection.get("slots", 1)))
    tokenizer = load_tokenizer(folder)
    prompt = prompts.build_verbalizer_prompt(tokenizer, meta.av_template, meta.injection_char, config.slots)
    if meta.injection_token_id not in (None, prompt.token_id):
        raise InputError(f"the sidecar's injection token is {meta.injection_token_id}, the tokenizer's {prompt.token_id}")
    if meta.neighbours not in (None, prompt.neighbours):
        raise InputError(f"the sidecar's neighbours are {meta.neighbours}, the prompt's {prompt.neighbours}; wrong template")
    verbalizer = Verbalizer(load_causal_lm(folder, dtype), tokenizer, prompt, config)
    if verbalizer.d_model != meta.d_model:
        raise InputError(f"{folder} has d_model {verbalizer.d_model}, its sidecar says {meta.d_model}")
    if kind == "affine":
        verbalizer.injection.load_state_dict(read_safetensors(folder / "injection.safetensors"))
    return verbalizer


def _load_reconstructor(folder: Path, meta: Meta, av_meta: Meta, dtype: torch.dtype) -> Reconstructor:
    template = meta.ar_template or av_meta.ar_template
    if template is None:
        raise InputError(f"{folder}/{FILE_NAME} lacks the reconstructor's template")
    tokenizer = load_tokenizer(folder)
    model = load_causal_lm(folder, dtype)
    blocks = _blocks_to_keep(folder, meta, model)
    reconstructor = Reconstructor(cut_backbone(model, blocks), tokenizer, template, meta.d_model)
    expected = meta.suffix_ids or av_meta.suffix_ids
    if expected is not None and tuple(reconstructor.suffix) != tuple(expected):
        raise InputError(f"the sidecar's suffix is {list(expected)}, the tokenizer's {reconstructor.suffix}")
    head = next((folder / name for name in _HEAD_FILES if (folder / name).is_file()), folder / _HEAD_FILES[0])
    weight = read_safetensors(head).get("weight")
    if weight is None or tuple(weight.shape) != tuple(reconstructor.head.weight.shape):
        shape = None if weight is None else tuple(weight.shape)
        raise InputError(f"{head} has a weight of shape {shape}, expected {tuple(reconstructor.head.weight.shape)}")
    if not torch.isfinite(weight).all():
        raise InputError(f"{head} holds NaN or infinite values; the export was damaged")
    reconstructor.head.weight.data = weight.float()
    return reconstructor


def _blocks_to_keep(folder: Path, meta: Meta, model: Any) -> int:
    from tl_nla.nla.families import decoder_layers

    present = len(decoder_layers(model))
    ar_meta = folder / "ar_meta.json"
    if ar_meta.is_file():
        return int(json.loads(ar_meta.read_text(encoding="utf-8")).get("ar_num_layers", present))
    if meta.layer is not None and (folder / "adapter_config.json").is_file():
        return min(present, meta.layer + 1)
    if meta.layer is not None and present != meta.layer + 1:
        raise InputError(f"{folder} has {present} blocks, layer {meta.layer} needs {meta.layer + 1} (K + 1)")
    return present


def _count_blocks(reconstructor: Reconstructor) -> int:
    from tl_nla.nla.families import layers_name

    return len(getattr(reconstructor.backbone, layers_name(reconstructor.backbone)))


def _save_model(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    model.save_pretrained(folder, state_dict={k: v.detach().to(dtype) for k, v in model.state_dict().items()})
    tokenizer.save_pretrained(folder)


def _replace(new: Path, old: Path) -> None:
    """Put ``new`` in the place of ``old``, keeping the old one until the new one stands."""
    backup = old.with_name(f".{old.name}.old")
    shutil.rmtree(backup, ignore_errors=True)
    if old.exists():
        os.replace(old, backup)
    os.replace(new, old)
    shutil.rmtree(backup, ignore_errors=True)
