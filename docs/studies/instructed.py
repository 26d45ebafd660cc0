"""Answers of an instruction-tuned model, greedily and many at once."""

from collections.abc import Sequence
from typing import Any

import torch

_BATCH = 40


@torch.no_grad()
def answers(model: Any, tokenizer: Any, requests: Sequence[str], most: int) -> list[str]:
    """What a model answers to requests of a user, each by itself.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer, with a chat template.
        requests: texts.
        most: tokens of an answer at most.
    """
    found: list[str] = []
    for start in range(0, len(requests), _BATCH):
        chats = [[{"role": "user", "content": one}] for one in requests[start : start + _BATCH]]
        ids = [tokenizer(tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True))["input_ids"]
               for one in chats]  # fmt: skip
        width, pad = max(map(len, ids)), tokenizer.pad_token_id
        tokens = torch.tensor([[pad] * (width - len(one)) + one for one in ids])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids])
        said = model.generate(input_ids=tokens, attention_mask=mask, max_new_tokens=most, do_sample=False,
                              pad_token_id=pad)  # fmt: skip
        found += [" ".join(one.split()) for one in tokenizer.batch_decode(said[:, width:], skip_special_tokens=True)]
    return found
