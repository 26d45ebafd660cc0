"""Tokenizers of several shapes, built here: no network, no downloads.

What differs is how they treat begin and end of a text, and which control tokens they have.
"""

import tempfile
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests import zoo

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<think>", "</think>", "<my_tool>", "<unused0>", "<|reserved_special_token_1|>")
"""Control tokens that their tokenizers do not call special."""
UNUSED = ("[unused2]", "<extra_id_3>")
"""Control tokens that stand in the vocabulary itself."""
MARKUP = "<h1>"
"""A token that looks like those above and is a word of documents."""
CHAR = "\u320e"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def reloaded(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerBase:
    """The same from a folder of its own: TransformerLens re-creates tokenizers by their folder's name."""
    folder = Path(tempfile.mkdtemp(prefix="tl-nla-tokenizer-"))
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def byte_level(bos: str | None = None, eos: str = "<|im_end|>", processor: processors.PostProcessor | None = None):
    """Single bytes and one rare character, control tokens of every kind, a chat template."""
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {piece: i for i, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    first, second, third = to_bytes.pre_tokenize_str(CHAR)[0][0]
    merges = [(first, second), (first + second, third)]
    for name in (*(left + right for left, right in merges), *UNUSED):
        vocabulary[name] = len(vocabulary)
    core = Tokenizer(models.BPE(vocabulary, merges))
    core.pre_tokenizer, core.decoder = to_bytes, decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    core.add_tokens([AddedToken(name, special=False, normalized=False) for name in (*ADDED, MARKUP)])
    if processor is not None:
        core.post_processor = processor
    found = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=eos, pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    found.chat_template = CHAT
    return found


def qwen():
    """No begin token; the end of a turn is the end token."""
    return byte_level()


def smollm():
    """The start of a turn is the begin token, which the tokenizer does not add by itself."""
    return byte_level("<|im_start|>")


def gpt2():
    """One token for begin and end, which the tokenizer does not add by itself."""
    return byte_level("<|endoftext|>", "<|endoftext|>")


def adds_begin():
    """A begin token that a template puts in front, as Llama 3 and Gemma do; the chat template has it, too."""
    number = byte_level().convert_tokens_to_ids("<|endoftext|>")
    front = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", number)])
    found = byte_level("<|endoftext|>", "<|im_end|>", front)
    found.chat_template = "<|endoftext|>" + CHAT
    return found


def adds_end():
    """No begin token, and an end token behind every text."""
    number = byte_level().convert_tokens_to_ids("<|im_end|>")
    return byte_level(
        processor=processors.TemplateProcessing(single="$A <|im_end|>", special_tokens=[("<|im_end|>", number)])
    )


def sentencepiece():
    """Pieces that start with a space sign, and a begin token that is put in front, as Llama 2 does."""
    names = ("<unk>", "<s>", "</s>")
    signs = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?<>|_/\n" + CHAR
    vocabulary = {piece: i for i, piece in enumerate((*names, *signs))}
    vocabulary["▁a"] = len(vocabulary)
    core = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    core.decoder = decoders.Metaspace()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def words():
    """Words, with a begin token of its own that the tokenizer does not add by itself."""
    return zoo.tokenizer()


def words_without_begin():
    """Words, with an end token and no begin token."""
    names = ["<eos>", "<unk>"] + [f"w{i}" for i in range(2, 40)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", unk_token="<unk>", pad_token="<eos>")


SHAPES = {
    "qwen": qwen,
    "smollm": smollm,
    "gpt2": gpt2,
    "adds_begin": adds_begin,
    "adds_end": adds_end,
    "sentencepiece": sentencepiece,
    "words": words,
    "words_without_begin": words_without_begin,
}


def make(shape: str) -> PreTrainedTokenizerBase:
    """A fresh tokenizer of a shape, from a folder of its own."""
    return reloaded(SHAPES[shape]())


def save_model(folder: Path, family: str, shape: str, **settings) -> None:
    """A folder with a random model of a family and a tokenizer of a shape."""
    tokenizer = SHAPES[shape]()
    tokenizer.save_pretrained(folder)
    names = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    zoo.hf_model(family, vocab_size=len(tokenizer), **{**names, **settings}).save_pretrained(folder)


def bridge(family: str, shape: str):
    """A random bridge of a family with a tokenizer of a shape, and that tokenizer as TransformerLens leaves it."""
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = make(shape)
    model = zoo.hf_model(family, vocab_size=len(tokenizer))
    boot = TransformerBridge.boot_transformers
    return boot("local/tiny", hf_model=model, tokenizer=tokenizer, device="cpu", dtype=model.dtype).eval(), tokenizer
