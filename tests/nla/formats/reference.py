"""Every family's recipe as slow as it likes: plain Hugging Face and torch, hooks on whole models, nothing of ours."""

import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def with_adapters(base: Path, *adapters: Path):
    """The base model with each adapter's matrices multiplied out and added, scale α/√r for rsLoRA, else α/r."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    for folder in adapters:
        settings = json.loads((folder / "adapter_config.json").read_text())
        rank = settings["r"] ** 0.5 if settings["use_rslora"] else settings["r"]
        _add(model, load_file(folder / "adapter_model.safetensors"), settings["lora_alpha"] / rank)
    return model


@torch.no_grad()
def _add(model, tensors, scale):
    modules = dict(model.named_modules())
    for key, down in tensors.items():
        if ".lora_A." in key:
            up = tensors[key.replace(".lora_A.", ".lora_B.")]
            name = key[key.index("layers.") :].split(".lora_A.")[0]
            modules[f"model.{name}"].weight += scale * up @ down


def sidecar(folder: Path) -> dict:
    return yaml.safe_load((folder / "nla_meta.yaml").read_text(encoding="utf-8"))


def prompt_ids(tokenizer, told: dict, prefill: str = "") -> list[int]:
    """One user message, thinking off, rendered, then tokenised without special tokens."""
    text = told["prompt_templates"]["actor"].replace("{injection_char}", told["tokens"]["injection_char"])
    chat = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return tokenizer.encode(rendered + prefill, add_special_tokens=False)


def sites(ids: list[int], tokens: dict) -> list[int]:
    """Places of the marker with both its neighbours."""
    left, right = tokens["injection_left_neighbor_id"], tokens["injection_right_neighbor_id"]
    return [
        place for place in range(1, len(ids) - 1)
        if ids[place] == tokens["injection_token_id"] and ids[place - 1] == left and ids[place + 1] == right
    ]  # fmt: skip


def adding(model, block: int, places: list[int], vectors, replace: bool = False, strength: float = 1.0):
    """A hook on a block that changes the pass over the prompt: h + ‖h‖·v/‖v‖, or that instead of h."""

    def hook(_module, _args, output):
        stream = output[0] if isinstance(output, tuple) else output
        if stream.shape[1] < 2:
            return output
        changed = stream.clone()
        for place, vector in zip(places, vectors, strict=True):
            here = stream[0, place]
            new = strength * here.norm() * vector / (vector.norm() + 1e-9)
            changed[0, place] = new if replace else here + new
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return model.model.layers[block].register_forward_hook(hook)


@torch.no_grad()
def logits(model, ids: list[int], response: list[int], hook) -> torch.Tensor:
    """Logits that predict each token of a response; ``hook(model)`` is on while they are computed."""
    handle = hook(model)
    try:
        out = model(input_ids=torch.tensor([ids + response]), use_cache=False).logits[0]
    finally:
        handle.remove()
    return out[len(ids) - 1 : -1]


@torch.no_grad()
def greedy(model, ids: list[int], hook, new: int, stop: tuple[int, ...]) -> list[int]:
    """Tokens of Hugging Face ``generate``."""
    handle, prompt = hook(model), torch.tensor([ids])
    try:
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new, do_sample=False,
                             eos_token_id=list(stop), pad_token_id=0)  # fmt: skip
    finally:
        handle.remove()
    return out[0, len(ids) :].tolist()


@torch.no_grad()
def vector(model, tokenizer, template: str, text: str, layer: int, head) -> torch.Tensor:
    """Output of block K at the last token of the raw text without special tokens, at norm √d, through the head."""
    kept = []
    handle = model.model.layers[layer].register_forward_hook(
        lambda _m, _a, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    try:
        ids = tokenizer.encode(template.replace("{explanation}", text), add_special_tokens=False)
        model(input_ids=torch.tensor([ids]), use_cache=False)
    finally:
        handle.remove()
    state = kept[0][0, -1].float()
    return head @ (state * state.numel() ** 0.5 / state.norm().clamp_min(1e-12))


def lora_critic(base: Path, folder: Path):
    """The base with EasyNLA's reconstructor adapter, and the head."""
    tensors = load_file(folder / "ar_lora_value_head.safetensors")
    settings = json.loads((folder / "ar_meta.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    head = tensors.pop("value_head.weight")
    _add(model, tensors, settings["lora_alpha"] / settings["lora_r"] ** 0.5)
    return model, head


def tokenizer_of(folder: Path):
    return AutoTokenizer.from_pretrained(folder)
