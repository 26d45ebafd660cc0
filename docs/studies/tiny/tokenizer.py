"""The embedded default's tokenizer: one token a story word, single bytes for everything else.

Every word of the world is one token (with its leading space). Any other text falls back to its UTF-8 bytes, so encoding
and decoding lose nothing on any Unicode string.
"""

import re
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tl_nla.storyworld.lexicon import SLOTS
from tl_nla.storyworld.templates import TEMPLATES

INJECTION_CHAR = "\u320e"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>")
MARKUP = ("<concept>", "</concept>", "<explanation>", "</explanation>", "<text>", "</text>", "<summary>")
EXPLANATION_WORDS = (
    "Recent words Next surely likely perhaps or and This is about at has the feels The Last It reads promotes "
    "suppresses attended strength nothing strong weak faint huge from to in with none tokens layer head block mlp "
    "attention before after skip changes keeps answer unchanged flips of a an no yes not one two three four five"
).split()
_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_WORD_SCORE, _BYTE_SCORE = -4.0, -8.0


def vocabulary_words() -> list[str]:
    """All words that are one token: with a leading space, and bare where a text can start with them."""
    words = {word for template in TEMPLATES for word in template.words if re.fullmatch(r"\w+", word)}
    words |= {word for options in SLOTS.values() for word in options} | set(EXPLANATION_WORDS)
    spaced = [" " + word for word in sorted(words)]
    return spaced + sorted(word for word in words if word[0].isupper())


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer from the world's lexicon; deterministic."""
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    scores = [(piece, _BYTE_SCORE) for piece in pieces]
    for text in [*vocabulary_words(), INJECTION_CHAR]:
        piece = to_bytes.pre_tokenize_str(text)[0][0]
        if piece not in pieces:
            scores.append((piece, _WORD_SCORE))
    core = Tokenizer(Unigram([(name, 0.0) for name in SPECIAL] + scores, unk_id=0, byte_fallback=False))
    core.pre_tokenizer = to_bytes
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    core.add_tokens([AddedToken(name, special=False, normalized=False) for name in MARKUP])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        clean_up_tokenization_spaces=False, model_max_length=512,
    )  # fmt: skip
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def save_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Build, save to ``folder`` and load back, so that it has a path that TransformerLens can reload it from.

    Raises:
        RuntimeError: when what is loaded back is another tokenizer (a configuration in the folder can force its class).
    """
    built = build_tokenizer()
    built.save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    if loaded.get_vocab() != built.get_vocab() or len(loaded.encode(" Tom was", add_special_tokens=False)) != 2:
        raise RuntimeError(f"{folder} gives back another tokenizer, a {type(loaded).__name__}; use an empty folder")
    return loaded
