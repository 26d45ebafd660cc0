"""Random tiny causal LMs of every family that TransformerLens can boot, as Hugging Face models and bridges.

``tests.zoo`` has the few families that most tests use. Here are all of them, for tests that ask what holds everywhere.
Nothing is trivial in them: gains are not one, biases not zero, and every multiplier of a family is set.
"""

import copy
from dataclasses import dataclass
from unittest import mock

import torch
import transformers
from torch import nn

from tests import zoo
from tests.zoo import D_MODEL, N_CTX, N_HEADS, TL_MAJOR, VOCAB

N_LAYERS = 4


@dataclass(frozen=True)
class Family:
    """How to make a tiny model of a family.

    ``name`` is how its classes begin, ``settings`` is its configuration. ``config`` and ``model`` name the classes
    where they are not ``<name>Config`` and ``<name>ForCausalLM``; ``architecture`` is what checkpoints call the model.
    """

    name: str
    settings: dict
    config: str = ""
    model: str = ""
    architecture: str = ""

    @property
    def config_class(self) -> type[transformers.PreTrainedConfig]:
        """The configuration's class."""
        return getattr(transformers, self.config or f"{self.name}Config")

    @property
    def model_class(self) -> type[transformers.PreTrainedModel]:
        """The model's class."""
        name = self.model or f"{self.name}ForCausalLM"
        return globals().get(name) or getattr(transformers, name)


class _TextOnlyGemma3n(transformers.Gemma3nForCausalLM):
    """The language model of Gemma 3n where the full model keeps it; its image tower needs a library we do not have."""

    _tied_weights_keys = {}

    def __init__(self, config: transformers.Gemma3nTextConfig) -> None:
        super().__init__(config)
        self.model = _LanguageModel(self.model)


class _LanguageModel(nn.Module):
    """A model that only hands on to its language model."""

    def __init__(self, language_model: nn.Module) -> None:
        super().__init__()
        self.language_model = language_model

    def forward(self, *args, **kwargs):
        return self.language_model(*args, **kwargs)


# fmt: off
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_TINY = {"vocab_size": VOCAB, "hidden_size": D_MODEL, "num_hidden_layers": N_LAYERS, **_SPECIAL}
_BASE = {**_TINY, "intermediate_size": 48, "num_attention_heads": N_HEADS, "max_position_embeddings": N_CTX}
_GROUPED = {**_BASE, "num_key_value_heads": 2}
_HEADS_OF_8 = {**_GROUPED, "head_dim": 8}
_BIASES = {**_GROUPED, "mlp_bias": True, "attention_bias": True}
_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
_GPT = {"vocab_size": VOCAB, "n_positions": N_CTX, "n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": N_HEADS,
        **_NO_DROPOUT, **_SPECIAL}
_ROTARY_GPT = {**_GPT, "rotary_dim": 4}
_FALCON = {**_BASE, "ffn_hidden_size": 48, "bias": True}
_FALCON_SEQUENTIAL = {**_FALCON, "parallel_attn": False, "multi_query": False}
_LOCAL_GLOBAL = ["sliding_attention", "full_attention"] * 2
_SLIDING = {**_GROUPED, "sliding_window": 4, "layer_types": _LOCAL_GLOBAL}
_GEMMA = {**_SLIDING, "head_dim": 8}
_GEMMA_SCALED = {**_GEMMA, "query_pre_attn_scalar": 6}
_GEMMA4 = {**_GEMMA, "global_head_dim": 16, "vocab_size_per_layer_input": VOCAB, "final_logit_softcapping": 5.0}
_GEMMA4_PER_LAYER = {**_GEMMA4, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2}
_GEMMA4_MOE = {**_GEMMA4, "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 4,
               "top_k_experts": 2, "moe_intermediate_size": 24, "attention_k_eq_v": True,
               "num_global_key_value_heads": 1}
_GEMMA3N = {**_GEMMA, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB, "laurel_rank": 4,
            "num_kv_shared_layers": 2, "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.0], "altup_num_inputs": 3,
            "tie_word_embeddings": False}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_SMALL_EXPERTS = {**_EXPERTS, "moe_intermediate_size": 24}
_SHARED_EXPERT = {**_SMALL_EXPERTS, "shared_expert_intermediate_size": 24}
_ROUTED = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_GRANITE = {**_GROUPED, "embedding_multiplier": 3.0, "residual_multiplier": 0.6, "attention_multiplier": 0.3,
            "logits_scaling": 2.5}
_MLA = {**_BASE, "num_key_value_heads": N_HEADS, "kv_lora_rank": 16, "q_lora_rank": 12, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4, "v_head_dim": 6}
_DEEPSEEK = {**_MLA, **_ROUTED, "first_k_dense_replace": 1, "routed_scaling_factor": 1.7, "n_group": 2,
             "topk_group": 1}
_DEEPSEEK_V4 = {**_BASE, **_ROUTED, "num_key_value_heads": 1, "head_dim": 8, "q_lora_rank": 12, "hc_mult": 2,
                "sliding_window": 4, "o_groups": 2, "o_lora_rank": 8, "index_n_heads": 2, "index_head_dim": 8,
                "index_topk": 4}
_INDEXED = {**_DEEPSEEK, "index_topk": 4, "index_head_dim": 8, "index_n_heads": 2}
_LINEAR_FULL = ["linear_attention", "full_attention"] * 2
_GATED_DELTA = {**_GROUPED, "head_dim": 16, "layer_types": _LINEAR_FULL, "linear_num_key_heads": 2,
                "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 6,
                "linear_conv_kernel_dim": 3}
_CONV = {**_GROUPED, "layer_types": ["conv", "full_attention"] * 2}
_MAMBA = {**_TINY, "state_size": 8, "time_step_rank": 4}
_MAMBA2_MIXER = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 8, "mamba_expand": 2,
                 "mamba_chunk_size": 8}
_FALCON_H1 = {**_HEADS_OF_8, **_MAMBA2_MIXER, "mamba_d_ssm": 64, "mamba_rms_norm": True, "lm_head_multiplier": 0.5,
              "embedding_multiplier": 2.0, "mlp_multipliers": [0.7, 1.3], "key_multiplier": 0.8,
              "attention_in_multiplier": 1.2, "attention_out_multiplier": 0.6, "ssm_in_multiplier": 1.4,
              "ssm_out_multiplier": 0.3, "ssm_multipliers": [0.9, 1.1, 0.8, 1.2, 0.7]}
_NEMOTRON_H_LAYERS = ["linear_attention", "full_attention", "mlp", "moe", "full_attention"]
_NEMOTRON_H = {**_HEADS_OF_8, "num_hidden_layers": 5, "layers_block_type": _NEMOTRON_H_LAYERS, "ssm_state_size": 8,
               "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "chunk_size": 8, "use_mamba_kernels": False,
               "n_routed_experts": 4, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 24}
_JAMBA = {**_GROUPED, **_EXPERTS, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
          "expert_layer_offset": 0, "use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 4}
_ZAMBA2 = {**_BASE, "layers_block_type": ["linear_attention", "hybrid"] * 2, "n_mamba_heads": 4, "mamba_d_state": 8,
           "mamba_ngroups": 2, "chunk_size": 8, "use_mamba_kernels": False, "adapter_rank": 4, "use_mem_rope": True}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "patch_size": 4}
_SIGLIP = {**_VISION, "image_size": 8}

FAMILIES: dict[str, Family] = {
    # The older families: biases everywhere, positions learned, rotary or by a slope.
    "gpt2": Family("GPT2", {**_GPT, "n_ctx": N_CTX}, model="GPT2LMHeadModel"),
    "openai_gpt": Family("OpenAIGPT", _GPT, model="OpenAIGPTLMHeadModel"),
    "gpt_bigcode": Family("GPTBigCode", _GPT),
    "gptj": Family("GPTJ", _ROTARY_GPT),
    "codegen": Family("CodeGen", {**_ROTARY_GPT, "n_ctx": N_CTX}),
    "gpt_neo": Family("GPTNeo", {
        "vocab_size": VOCAB, "hidden_size": D_MODEL, "num_layers": N_LAYERS, "num_heads": N_HEADS, "window_size": 4,
        "max_position_embeddings": N_CTX, "attention_types": [[["global", "local"], 2]], **_SPECIAL}),
    "neox": Family("GPTNeoX", {**_BASE, "use_parallel_residual": True}),
    "neox_sequential": Family("GPTNeoX", {**_BASE, "use_parallel_residual": False}),
    "opt": Family("OPT", {
        **_TINY, "ffn_dim": 48, "num_attention_heads": N_HEADS, "max_position_embeddings": N_CTX, "dropout": 0.0,
        "word_embed_proj_dim": D_MODEL}),
    "bloom": Family("Bloom", {
        "vocab_size": VOCAB, "hidden_size": D_MODEL, "n_layer": N_LAYERS, "n_head": N_HEADS, **_SPECIAL}),
    "falcon": Family("Falcon", _FALCON),
    "falcon_new": Family("Falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_sequential": Family("Falcon", _FALCON_SEQUENTIAL),
    "falcon_alibi": Family("Falcon", {**_FALCON_SEQUENTIAL, "alibi": True}),
    "mpt": Family("Mpt", {
        "vocab_size": VOCAB, "d_model": D_MODEL, "n_layers": N_LAYERS, "n_heads": N_HEADS, "max_seq_len": N_CTX,
        **_SPECIAL}),
    "xglm": Family("XGLM", {
        "vocab_size": VOCAB, "d_model": D_MODEL, "ffn_dim": 48, "num_layers": N_LAYERS, "attention_heads": N_HEADS,
        "max_position_embeddings": N_CTX, "dropout": 0.0, "attention_dropout": 0.0, **_SPECIAL}),
    "phi": Family("Phi", {**_BASE, "partial_rotary_factor": 0.5}),
    "phi3": Family("Phi3", {**_GROUPED, "original_max_position_embeddings": N_CTX}),
    "phimoe": Family("Phimoe", {**_BIASES, "num_local_experts": 4, "lm_head_bias": True},
                     architecture="PhiMoEForCausalLM"),
    "persimmon": Family("Persimmon", _BASE),
    "stablelm": Family("StableLm", {**_GROUPED, "use_qkv_bias": True, "qk_layernorm": True}),
    "stablelm_parallel": Family("StableLm", {**_GROUPED, "use_parallel_residual": True}),
    "cohere": Family("Cohere", {**_GROUPED, "logit_scale": 0.4}),
    "cohere_qk_norm": Family("Cohere", {**_GROUPED, "logit_scale": 0.4, "use_qk_norm": True}),
    "cohere2": Family("Cohere2", {**_SLIDING, "logit_scale": 0.4}),
    "starcoder2": Family("Starcoder2", _GROUPED),
    "nemotron": Family("Nemotron", _BIASES),
    "jais2": Family("Jais2", _BIASES),
    # Llama and what is built like it.
    "llama": Family("Llama", _GROUPED),
    "llama_biases": Family("Llama", _BIASES),
    "mistral": Family("Mistral", {**_GROUPED, "sliding_window": 4}),
    "ministral3": Family("Ministral3", _HEADS_OF_8),
    "qwen2": Family("Qwen2", _GROUPED),
    "qwen3": Family("Qwen3", {**_GROUPED, "head_dim": 16}),
    "gemma": Family("Gemma", _HEADS_OF_8),
    "gemma2": Family("Gemma2", _GEMMA_SCALED),
    "gemma3": Family("Gemma3", _GEMMA_SCALED, config="Gemma3TextConfig"),
    "gemma3n": Family("Gemma3n", _GEMMA3N, config="Gemma3nTextConfig", model="_TextOnlyGemma3n",
                      architecture="Gemma3nForConditionalGeneration"),
    "gemma4": Family("Gemma4", _GEMMA4_PER_LAYER, config="Gemma4TextConfig"),
    "vaultgemma": Family("VaultGemma", _GEMMA_SCALED),
    "olmo": Family("Olmo", {**_GROUPED, "clip_qkv": 0.5}),
    "olmo2": Family("Olmo2", _GROUPED),
    "olmo3": Family("Olmo3", _SLIDING),
    "granite": Family("Granite", {**_GRANITE, "attention_bias": True, "mlp_bias": True}),
    "smollm3": Family("SmolLM3", {**_GROUPED, "no_rope_layer_interval": 2}),
    "glm": Family("Glm", _HEADS_OF_8),
    "glm4": Family("Glm4", _HEADS_OF_8),
    "exaone4": Family("Exaone4", _SLIDING),
    "youtu": Family("Youtu", _MLA),
    "minicpm3": Family("MiniCPM3", {**_MLA, "scale_emb": 3, "scale_depth": 1.4, "dim_model_base": 16}),
    "ernie4_5": Family("Ernie4_5", {**_HEADS_OF_8, "use_bias": True}),
    "hunyuan": Family("HunYuanDenseV1", _HEADS_OF_8),
    "seed_oss": Family("SeedOss", {**_BIASES, "head_dim": 8, "attention_out_bias": True, "residual_dropout": 0.0}),
    "arcee": Family("Arcee", _BIASES),
    "apertus": Family("Apertus", _GROUPED),
    "bitnet": Family("BitNet", _GROUPED),
    "helium": Family("Helium", _HEADS_OF_8),
    "nanochat": Family("NanoChat", {**_GROUPED, "final_logit_softcapping": 5.0}),
    "doge": Family("Doge", _GROUPED),
    "modernbert_decoder": Family("ModernBertDecoder", {**_BASE, "local_attention": 8, "layer_types": _LOCAL_GLOBAL}),
    # Mixtures of experts.
    "mixtral": Family("Mixtral", {**_GROUPED, "num_local_experts": 4}),
    "qwen2_moe": Family("Qwen2Moe", {**_GROUPED, **_SHARED_EXPERT, "mlp_only_layers": [0]}),
    "qwen3_moe": Family("Qwen3Moe", {**_GROUPED, **_SMALL_EXPERTS, "head_dim": 16, "mlp_only_layers": [0]}),
    "gemma4_moe": Family("Gemma4", _GEMMA4_MOE, config="Gemma4TextConfig"),
    "olmoe": Family("Olmoe", {**_GROUPED, **_EXPERTS}),
    "flex_olmo": Family("FlexOlmo", {**_GROUPED, **_EXPERTS}),
    "granite_moe": Family("GraniteMoe", {**_GRANITE, "num_local_experts": 4}),
    "glm4_moe": Family("Glm4Moe", {**_HEADS_OF_8, **_ROUTED, "routed_scaling_factor": 1.7, "use_qk_norm": True}),
    "glm4_moe_lite": Family("Glm4MoeLite", _DEEPSEEK),
    "glm_moe_dsa": Family("GlmMoeDsa", _INDEXED),
    "deepseek_v2": Family("DeepseekV2", _DEEPSEEK),
    "deepseek_v3": Family("DeepseekV3", _DEEPSEEK),
    "deepseek_v4": Family("DeepseekV4", _DEEPSEEK_V4),
    "gpt_oss": Family("GptOss", {**_GEMMA, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "ernie4_5_moe": Family("Ernie4_5_Moe", {
        **_HEADS_OF_8, "moe_intermediate_size": 24, "moe_k": 2, "moe_num_experts": 4, "use_bias": True}),
    "dots1": Family("Dots1", {**_GROUPED, **_ROUTED, "first_k_dense_replace": 1}),
    "minimax_m2": Family("MiniMaxM2", {**_HEADS_OF_8, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4": Family("Llama4", {
        **_HEADS_OF_8, "intermediate_size_mlp": 48, "num_local_experts": 4, "interleave_moe_layer_step": 2},
        config="Llama4TextConfig"),
    "afmoe": Family("Afmoe", {
        **_HEADS_OF_8, **_SMALL_EXPERTS, "num_shared_experts": 1, "sliding_window": 4, "mup_enabled": True}),
    "laguna": Family("Laguna", {**_HEADS_OF_8, **_SHARED_EXPERT}),
    "jetmoe": Family("JetMoe", {
        **_TINY, "num_key_value_heads": 2, "kv_channels": 8, "intermediate_size": 48, "num_local_experts": 4,
        "max_position_embeddings": N_CTX}),
    # Blocks without attention, with attention beside something else, or read more than once.
    "qwen3_next": Family("Qwen3Next", {**_GATED_DELTA, **_SHARED_EXPERT, "mlp_only_layers": [0]}),
    "qwen3_5": Family("Qwen3_5", _GATED_DELTA, config="Qwen3_5TextConfig"),
    "qwen3_5_moe": Family("Qwen3_5Moe", {**_GATED_DELTA, **_SHARED_EXPERT}, config="Qwen3_5MoeTextConfig"),
    "olmo_hybrid": Family("OlmoHybrid", {**_GATED_DELTA, "linear_num_key_heads": 4}),
    "granite_moe_hybrid": Family("GraniteMoeHybrid", {
        **_GRANITE, **_MAMBA2_MIXER, "layer_types": _LINEAR_FULL, "num_local_experts": 4,
        "shared_intermediate_size": 24, "position_embedding_type": "rope"}),
    "lfm2": Family("Lfm2", _CONV),
    "lfm2_moe": Family("Lfm2Moe", {**_CONV, **_SMALL_EXPERTS, "num_dense_layers": 1}),
    "falcon_h1": Family("FalconH1", _FALCON_H1),
    "nemotron_h": Family("NemotronH", _NEMOTRON_H),
    "jamba": Family("Jamba", _JAMBA),
    "bamba": Family("Bamba", {**_GROUPED, **_MAMBA2_MIXER, "attn_layer_indices": [1, 3]}),
    "zamba2": Family("Zamba2", _ZAMBA2),
    "recurrent_gemma": Family("RecurrentGemma", {
        **_GROUPED, "lru_width": D_MODEL, "attention_window_size": 8, "block_types": ["recurrent", "attention"]}),
    "mamba": Family("Mamba", _MAMBA),
    "falcon_mamba": Family("FalconMamba", _MAMBA),
    "mamba2": Family("Mamba2", {**_TINY, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 2,
                                "chunk_size": 8}),
    "rwkv": Family("Rwkv", {**_TINY, "context_length": N_CTX, "rescale_every": 2}),
    "hrm_text": Family("HrmText", {**_BASE, "head_dim": 8, "num_hidden_layers": 2}),
    # Language models inside models that also see images.
    "gemma3_images": Family("Gemma3", {
        "text_config": _GEMMA_SCALED, "vision_config": _SIGLIP, "mm_tokens_per_image": 4, "image_token_index": 63},
        model="Gemma3ForConditionalGeneration"),
    "gemma4_images": Family("Gemma4", {
        "text_config": _GEMMA4_PER_LAYER, "audio_config": None,
        "vision_config": {**_VISION, "num_key_value_heads": 2, "head_dim": 8}},
        model="Gemma4ForConditionalGeneration"),
    "mistral3_images": Family("Mistral3", {
        "text_config": {**_HEADS_OF_8, "model_type": "mistral"},
        "vision_config": {**_SIGLIP, "head_dim": 8, "model_type": "pixtral"}},
        model="Mistral3ForConditionalGeneration"),
    "llava": Family("Llava", {
        "text_config": {**_GROUPED, "model_type": "llama"},
        "vision_config": {**_SIGLIP, "model_type": "clip_vision_model"}},
        model="LlavaForConditionalGeneration"),
    "qwen3_vl_images": Family("Qwen3VL", {
        "text_config": {**_HEADS_OF_8, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}},
        "vision_config": {"hidden_size": 16, "intermediate_size": 16, "depth": 2, "num_heads": 2, "patch_size": 4,
                          "out_hidden_size": D_MODEL, "deepstack_visual_indexes": [0]}},
        model="Qwen3VLForConditionalGeneration"),
}

# Families that TransformerLens has no adapter for, or whose adapter fails, and why (the same in 3.9 and 4.3).
_NO_ADAPTER = "TransformerLens has no adapter"  # ValueError: Unsupported architecture: <model class>
UNSUPPORTED = {
    "persimmon": _NO_ADAPTER, "minicpm3": _NO_ADAPTER, "helium": _NO_ADAPTER, "doge": _NO_ADAPTER,
    "dots1": _NO_ADAPTER,
    # RuntimeError: split_with_sizes expects split_sizes to sum exactly to 64 (input tensor's size at dimension 0),
    # but got split_sizes=[32, 8, 8]
    "falcon_new": "the adapter takes grouped queries, keys and values for one key and one value",
}
if TL_MAJOR < 4:
    # RuntimeError: PositionEmbeddingsAttentionBridge at 'self_attn': HF module has 'q_norm' but adapter did not
    # declare 'q_norm'. Forward would skip the norm, producing wrong logits vs HF.
    UNSUPPORTED["cohere_qk_norm"] = "the adapter of TransformerLens 3.9 has no norms of queries and keys"
BOOTING = tuple(family for family in FAMILIES if family not in UNSUPPORTED)

MLA = ("youtu", "glm4_moe_lite", "glm_moe_dsa", "deepseek_v2", "deepseek_v3")
# Bridges whose logits are not those of the Hugging Face model: mistakes of TransformerLens. Their writes still add up.
_WRONG_IN_3 = ("cohere", "cohere2", "hunyuan", "youtu", "glm4_moe_lite", "deepseek_v2", "deepseek_v3")
WRONG_LOGITS = ("falcon_alibi", *(_WRONG_IN_3 if TL_MAJOR < 4 else ()))
PARALLEL = ("gptj", "codegen", "neox", "falcon", "falcon_new", "phi", "stablelm_parallel", "cohere", "cohere_qk_norm",
            "cohere2")
# A norm behind the attention; the attention's write is the norm's output.
POST_NORM = ("gemma2", "gemma3", "gemma3_images", "gemma3n", "gemma4", "gemma4_images", "gemma4_moe", "olmo2", "olmo3",
             "flex_olmo", "olmo_hybrid", "glm4", "exaone4", "afmoe")
# What a block computes is multiplied before it is added to the stream.
MULTIPLIED = ("granite", "granite_moe", "granite_moe_hybrid", "falcon_h1")
# What a block computes is added and the whole stream is then multiplied: in the block, or (rwkv) between two blocks.
STREAM_SCALED = ("gemma4", "gemma4_images", "gemma4_moe", "rwkv")
MOE = ("phimoe", "mixtral", "qwen2_moe", "qwen3_moe", "gemma4_moe", "olmoe", "flex_olmo", "granite_moe", "glm4_moe",
       "glm4_moe_lite", "glm_moe_dsa", "deepseek_v2", "deepseek_v3", "deepseek_v4", "gpt_oss", "ernie4_5_moe", "dots1",
       "minimax_m2", "llama4", "afmoe", "laguna", "jetmoe", "qwen3_next", "qwen3_5_moe", "granite_moe_hybrid",
       "lfm2_moe", "nemotron_h", "jamba")
# Some blocks have no attention; falcon_h1 has something else beside it in every block.
HYBRID = ("qwen3_next", "qwen3_5", "qwen3_5_moe", "olmo_hybrid", "granite_moe_hybrid", "lfm2", "lfm2_moe", "falcon_h1",
          "nemotron_h", "jamba", "bamba", "zamba2", "recurrent_gemma")
NO_ATTENTION = ("mamba", "falcon_mamba", "mamba2", "rwkv")
# The block is not a sum of parts added to one stream: norms behind the sum, several streams, or no list of blocks.
NOT_A_SUM = ("openai_gpt", "gemma3n", "deepseek_v4", "hrm_text")
# The logits are the unembedded last stream times a number, or squashed, or behind one more layer.
LOGITS_SCALED = ("cohere", "cohere_qk_norm", "cohere2", "granite", "granite_moe", "granite_moe_hybrid", "falcon_h1")
LOGITS_CAPPED = ("gemma2", "gemma3n", "gemma4", "gemma4_images", "gemma4_moe", "vaultgemma", "nanochat",
                 "recurrent_gemma")
HEAD_WITH_A_LAYER = ("modernbert_decoder",)
PER_LAYER_EMBEDDINGS = ("gemma3n", "gemma4", "gemma4_images")
NO_FLOAT64 = ("xglm",)  # its mask has a number that float32 cannot hold: Hugging Face fails
NO_BFLOAT16 = ("codegen",)  # the bridge multiplies float32 by bfloat16
# Those that tests/model/test_families.py runs: one of each group, and of each kind of norm, bias and multiplier.
SAMPLE = ("gpt2", "gptj", "cohere", "bloom", "gemma2", "olmo2", "gemma4", "granite", "mixtral", "deepseek_v3",
          "qwen3_next", "falcon_h1", "nemotron_h", "mamba2", "qwen3_vl_images")
# fmt: on


def _randomise(model: nn.Module, std: float = 0.2, seed: int = 0) -> nn.Module:
    """Give every parameter and saved buffer noise around its first value where that is one number, else around 0.

    So the gains of norms stay near one, or near zero where the norm itself adds the one.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict(keep_vars=True).values():
            if not value.is_floating_point():
                continue
            first = value.flatten()[0].item()
            centre = first if value.ndim <= 1 and first in (0.0, 1.0) and bool((value == first).all()) else 0.0
            value.copy_(torch.randn(value.shape, generator=generator) * std + centre)
    return model.eval()


def build(family: str, dtype: torch.dtype = torch.float32, **settings) -> transformers.PreTrainedModel:
    """A fresh random causal LM of the family; the weights are the same in every dtype, but for the rounding."""
    made = FAMILIES[family]
    config = made.config_class(**copy.deepcopy({**made.settings, **settings}))
    # Fresh models have no architecture, and bridges look there.
    config.architectures = [made.architecture or made.model_class.__name__]
    model = zoo.with_score_cap(_randomise(made.model_class(config)))
    if dtype == torch.float32:
        return model
    # Not model.to(dtype): a loaded model keeps its rotary frequencies in float32.
    # The fused product of the experts has no float64.
    experts = {"experts_implementation": "eager"} if dtype == torch.float64 else {}
    other = made.model_class._from_config(copy.deepcopy(config), dtype=dtype, **experts)
    other.load_state_dict(model.state_dict())
    return zoo.with_score_cap(other).eval()


def bridge(family: str, dtype: torch.dtype = torch.float32, tokenizer: bool = False, **settings):
    """A TransformerBridge around a fresh model of the family, with or without the tokenizer of ``tests.zoo``.

    Never by ``boot_transformers``: for models that see images it installs a package with pip when one is missing.
    """
    from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    model = build(family, dtype, **settings)
    words = zoo.tokenizer() if tokenizer else None
    # Some adapters ask for libraries that only their image towers use.
    with mock.patch.object(ArchitectureAdapter, "_check_required_libraries"):
        architecture = model.config.architectures[0]
        return build_bridge_from_module(model, architecture, hf_config=model.config, tokenizer=words).eval()
