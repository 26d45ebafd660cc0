"""Random tiny stand-ins for SmolLM2: a folder, and a GGUF file such as its package holds."""

from pathlib import Path

from tests import zoo

PIECES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "th", "Ġth", "Ġthe"]
MERGES = ["t h", "Ġ th", "Ġth e"]


def folder(path: Path) -> Path:
    """A random tiny Llama with a tokenizer, as a Hugging Face folder."""
    zoo.hf_model("llama").save_pretrained(path)
    zoo.tokenizer().save_pretrained(path)
    return path


def packed(path: Path, width: int = 32, heads: int = 4, layers: int = 2) -> Path:
    """A random tiny Llama with a byte-pair tokenizer, as a GGUF file."""
    import gguf
    import numpy as np

    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(48)
    writer.add_head_count(heads)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(PIECES))
    writer.add_rope_freq_base(1e5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(PIECES)
    writer.add_token_types([3, 3, 3, *[1] * (len(PIECES) - 3)])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.2, shape).astype(np.float32))

    add("token_embd.weight", len(PIECES), width)
    add("output_norm.weight", width)
    for layer in range(layers):
        block = f"blk.{layer}."
        for name, rows in (("attn_q", width), ("attn_k", width // 2), ("attn_v", width // 2), ("attn_output", width)):
            add(f"{block}{name}.weight", rows, width)
        add(f"{block}ffn_gate.weight", 48, width)
        add(f"{block}ffn_up.weight", 48, width)
        add(f"{block}ffn_down.weight", width, 48)
        add(f"{block}attn_norm.weight", width)
        add(f"{block}ffn_norm.weight", width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
