"""Answers that name at least so many words: a verbalizer that is unsure otherwise says "none" and stops."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.oracle.texts import parse_words


class AtLeastWords:
    """Keeps an answer's list from ending before it names ``count`` different words.

    The likeliest answer as a whole is often "none" where every single word is less likely than that. Yet most of the
    likely words are right. Has the form of transformers' ``LogitsProcessor``.

    Raises:
        InputError: for a count below 1.
    """

    def __init__(self, tokenizer: Any, end_ids: Sequence[int], count: int) -> None:
        if count < 1:
            raise InputError(f"at_least is {count}; give 1 word or more, or 0 to leave it to the verbalizer")
        self.tokenizer, self.count = tokenizer, count
        texts = [tokenizer.decode([number]) for number in range(len(tokenizer))]
        self.stops = torch.tensor([number in end_ids or ";" in text or text.strip() == "none"
                                   for number, text in enumerate(texts)])  # fmt: skip
        self.words = torch.tensor([text != text.lstrip() and bool(text.strip()) for text in texts])

    def __call__(self, ids: Int[Tensor, "n pos"], scores: Float[Tensor, "n vocab"]) -> Float[Tensor, "n vocab"]:
        """Scores of the next token, without what would end the list or begin a word of it again."""
        lists = self.tokenizer.batch_decode(ids) if ids.shape[1] else [""] * len(scores)
        short = torch.tensor([";" not in text and len(parse_words(text, self.count)) < self.count for text in lists])
        banned = torch.zeros(scores.shape, dtype=torch.bool)
        banned[:, : len(self.stops)] = self.stops
        said = torch.zeros_like(banned).scatter(1, ids.cpu(), True)
        said[:, : len(self.words)] &= self.words
        return scores.masked_fill(((banned | said) & short[:, None]).to(scores.device), -torch.inf)
