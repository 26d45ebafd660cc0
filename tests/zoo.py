"""Random tiny models of every family, as Hugging Face models, bridges and HookedTransformers: no network, no downloads.

Every builder makes a fresh model with the same weights each time; the fixtures in ``fixtures.py`` share read-only ones.
Nothing here imports ``tl_nla`` at once: the shape checker has to be in place first.
"""

import functools
import importlib.metadata
import tempfile
from pathlib import Path

import torch
import transformers
from torch import nn

VOCAB = 64
N_CTX = 64
D_MODEL = 32
N_LAYERS = 3
N_HEADS = 4
TL_MAJOR = int(importlib.metadata.version("transformer-lens").split(".")[0])
HAS_HOOKED_TRANSFORMER = TL_MAJOR < 4

_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_ROPE = {
    "vocab_size": VOCAB,
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "max_position_embeddings": N_CTX,
    **_SPECIAL,
}
_GROUPED = {**_ROPE, "num_key_value_heads": 2}
_GEMMA = {**_GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}
_GPT2 = {
    "vocab_size": VOCAB,
    "n_positions": N_CTX,
    "n_ctx": N_CTX,  # TransformerLens 3.9 reads the old name
    "n_embd": D_MODEL,
    "n_layer": N_LAYERS,
    "n_head": N_HEADS,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    **_SPECIAL,
}
# family -> (configuration class, model class, settings)
_FAMILIES: dict[str, tuple[str, str, dict]] = {
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", _GPT2),
    "llama": ("LlamaConfig", "LlamaForCausalLM", _GROUPED),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**_GROUPED, "head_dim": 16}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", _GEMMA),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", _GEMMA),
    "neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {**_ROPE, "use_parallel_residual": True}),
    "neox_sequential": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {**_ROPE, "use_parallel_residual": False}),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", _GROUPED),
}
FAMILIES = tuple(_FAMILIES)
POST_NORM_FAMILIES = ("gemma2", "gemma3", "olmo2")
PARALLEL_FAMILIES = ("neox",)
# Families that HookedTransformer 3.9 can load from a folder with the weights of the Hugging Face model.
TWIN_FAMILIES = ("gpt2", "llama", "qwen2", "qwen3", "neox", "neox_sequential")


def tokens(batch: int = 2, pos: int = 7, seed: int = 0) -> torch.Tensor:
    """Random token ids without special ones, ``[batch, pos]``."""
    return torch.randint(4, VOCAB, (batch, pos), generator=torch.Generator().manual_seed(seed))


@functools.cache
def tokenizer_folder(signs: tuple[str, ...] = ()) -> Path:
    """A folder with a word-level tokenizer of ``VOCAB`` tokens: ``<pad> <bos> <eos> <unk> w4 w5 ...``, signs last."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<bos>", "<eos>", "<unk>"] + [f"w{i}" for i in range(4, VOCAB - len(signs))] + list(signs)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = Path(tempfile.mkdtemp(prefix="tl-nla-tokenizer-"))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, **names).save_pretrained(folder)
    return folder


def tokenizer(signs: tuple[str, ...] = ()) -> transformers.PreTrainedTokenizerBase:
    """The tiny tokenizer, reloaded from its folder: TransformerLens re-creates it by its folder's name."""
    return transformers.AutoTokenizer.from_pretrained(tokenizer_folder(signs))


def randomise(model: nn.Module, std: float = 0.2, seed: int = 0) -> nn.Module:
    """Give every parameter a random value, norms near one, so that no bias or gain can hide by being trivial."""
    generator = torch.Generator().manual_seed(seed)
    gemma = "gemma" in type(model).__name__.lower()  # its norms multiply by one plus the weight
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = ("norm" in name or "ln_" in name) and name.endswith("weight") and not gemma
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std + float(norm))
    return model.eval()


def hf_model(family: str, **settings) -> transformers.PreTrainedModel:
    """A fresh random causal LM of the family; ``settings`` override its configuration."""
    config_name, model_name, defaults = _FAMILIES[family]
    config = getattr(transformers, config_name)(**{**defaults, **settings})
    config.architectures = [model_name]  # fresh models have none, and bridges look there
    return with_score_cap(randomise(getattr(transformers, model_name)(config)))


def with_score_cap(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """The model itself: fused attention, which some releases of transformers take, has no cap of the scores."""
    if getattr(model.config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")
    return model


def save_target(folder: Path, family: str = "llama") -> None:
    """Write a random target of two layers with the story world's tokenizer, for what trains on stories."""
    from docs.studies.tiny.tokenizer import save_tokenizer

    tokenizer = save_tokenizer(folder)
    few = {"vocab_size": len(tokenizer), "max_position_embeddings": 512, "num_hidden_layers": 2}
    if family == "gpt2":
        few = {"vocab_size": len(tokenizer), "n_positions": 512, "n_ctx": 512, "n_layer": 2}
    hf_model(family, **few).save_pretrained(folder)


def bridge(model: str | transformers.PreTrainedModel, with_tokenizer: bool = True, words=None, **settings):
    """A TransformerBridge around a fresh model of a family, or around the model given (which it rewrites in place).

    ``words`` is a tokenizer to take in place of the tiny one.
    """
    hf = hf_model(model, **settings) if isinstance(model, str) else model
    if not with_tokenizer:
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        return build_bridge_from_module(hf, type(hf).__name__, hf_config=hf.config, tokenizer=None).eval()
    from transformer_lens.model_bridge import TransformerBridge

    boot = TransformerBridge.boot_transformers
    return boot("local/tiny", hf_model=hf, tokenizer=words or tokenizer(), device="cpu", dtype=hf.dtype).eval()


def hooked_transformer(with_tokenizer: bool = True, **settings):
    """A random HookedTransformer (TransformerLens before 4); ``settings`` override its configuration."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    defaults = {
        "n_layers": N_LAYERS,
        "d_model": D_MODEL,
        "n_ctx": N_CTX,
        "d_head": 8,
        "n_heads": N_HEADS,
        "d_mlp": 48,
        "d_vocab": VOCAB,
        "act_fn": "gelu_new",
        "normalization_type": "LN",
        "seed": 0,
        "device": "cpu",
    }
    config = HookedTransformerConfig(**{**defaults, **settings})
    model = HookedTransformer(config, tokenizer=tokenizer() if with_tokenizer else None)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + float(name.endswith(".w")))
    return model.eval()


def hooked_twin(family: str | transformers.PreTrainedModel, words=None, **settings):
    """A HookedTransformer with the very weights of ``hf_model(family)``, unprocessed (TransformerLens before 4)."""
    from transformer_lens import HookedTransformer
    from transformer_lens import loading_from_pretrained as loading

    hf = hf_model(family, **settings) if isinstance(family, str) else family
    # from_pretrained takes official names only; its parts also take a folder.
    with tempfile.TemporaryDirectory(prefix="tl-nla-twin-") as folder:
        hf.config.save_pretrained(folder)
        config = loading.get_pretrained_model_config(
            folder, hf_cfg=hf.config.to_dict(), device="cpu", dtype=torch.float32
        )
        weights = loading.get_pretrained_state_dict(folder, config, hf, dtype=torch.float32)
    model = HookedTransformer(config, tokenizer=words or tokenizer())
    raw = {"fold_ln": False, "center_writing_weights": False, "center_unembed": False, "fold_value_biases": False}
    model.load_and_process_state_dict(weights, **raw)
    return model.eval()


def hook_counts(model) -> dict[str, int]:
    """How many hooks sit on each hook point that has any: empty when the model is clean."""
    points = {id(point): (name, point) for name, point in model.hook_dict.items()}
    counts = {name: len(point.fwd_hooks) + len(point.bwd_hooks) for name, point in points.values()}
    return {name: count for name, count in counts.items() if count}
