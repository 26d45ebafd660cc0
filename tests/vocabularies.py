"""Small tokenizers of every make, trained here on a page of text: no network, no downloads."""

import functools

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SIZE = 512
SPECIAL = ["<unk>", "<s>", "</s>"]
MAKES = ("metaspace_bpe", "metaspace_unigram", "llama2", "byte_bpe", "word_level")
_SUBJECTS = "Tom Lily Ben Anna Sam Mia Max Zoe".split()
_VERBS = "found lost painted carried broke sold hid liked".split()
_THINGS = "kite drum boat lamp ball hat book bell".split()
_TEXT = [
    f"{who} {did} a {what} <near> the {other}, and the {what} was π red. It holds α words; explain them: 1 + 2 = 3!"
    for who in _SUBJECTS for did in _VERBS for what, other in zip(_THINGS, reversed(_THINGS), strict=True)
]  # fmt: skip


def train(make: str, symbol: str = "") -> PreTrainedTokenizerFast:
    """A fresh tokenizer; with a symbol, one that has met it as a word of its own.

    ``metaspace_bpe`` and ``metaspace_unigram`` put a space in front of every text and know no bytes; ``llama2`` does
    so through its normaliser and falls back to bytes; ``byte_bpe`` is GPT-2's make, ``word_level`` splits at spaces.
    """
    known = {"vocab_size": SIZE, "special_tokens": SPECIAL, "show_progress": False}
    if make == "byte_bpe":
        core = Tokenizer(models.BPE())
        core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **known)
    elif make == "word_level":
        core = Tokenizer(models.WordLevel(unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(**known)
    elif make == "metaspace_unigram":
        core = Tokenizer(models.Unigram())
        core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **known)
    else:
        core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=make == "llama2", fuse_unk=True))
        if make == "llama2":
            core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
            core.decoder = decoders.Sequence(steps)
            known["special_tokens"] = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
        else:
            core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.BpeTrainer(**known)
    core.train_from_iterator(_TEXT + [f"the {symbol} of {who}" for who in _SUBJECTS if symbol], trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **names)


@functools.cache
def tokenizer(make: str) -> PreTrainedTokenizerFast:
    """One of ``MAKES``, made once; do not change it."""
    return train(make)
