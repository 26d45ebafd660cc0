"""A blind reader that is a base language model: how much likelier is a candidate behind the words than without them?"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.states import BlockStates
from tl_nla.model.probe import device_of

_LOGITS = 2**27
"""Logits that one pass over candidates may hold."""


class LikelihoodReader:
    """Reads words with a causal language model that never saw an activation.

    The score of a candidate is ``log p(candidate | words) - log p(candidate)``, in nats a token. The second term takes
    away what makes a candidate likely by itself, so that nothing can be told from the candidates alone.

    Args:
        model: a Hugging Face causal language model, such as the target's own base.
        tokenizer: its tokenizer; candidates are its token ids.
        begin: ids in front of every text.
        cap: tokens of the words that are read.
    """

    name = "likelihood"

    def __init__(self, model: Any, tokenizer: Any, begin: Sequence[int] = (), cap: int = 64) -> None:
        self.model, self.tokenizer, self.cap = model, tokenizer, cap
        self.begin = list(begin) or [_any_start(tokenizer)]
        self._alone: dict[tuple[int, ...], float] = {}
        self._states: dict[int, BlockStates] = {}

    def scores(
        self, words: Sequence[str], candidates: Sequence[Sequence[Sequence[int]]],
        question: Sequence[Sequence[int]] = (),
    ) -> Float[Tensor, "n k"]:  # fmt: skip
        """Score every candidate of every row.

        Args:
            words: one text a row; all that the reader learns.
            candidates: token ids, the same number and length for every row.
            question: token ids between words and candidates, one list a row; none when empty.
        """
        asked = [list(one) for one in question] or [[] for _ in words]
        behind = self._behind([self.ids(text) + ask for text, ask in zip(words, asked, strict=True)], candidates)
        if not any(asked):
            return behind - self._without(candidates)
        return behind - self._behind([[*self.begin, *ask] for ask in asked], candidates)

    def ids(self, words: str) -> list[int]:
        """What the reader reads: the begin tokens and the words."""
        return self.begin + list(self.tokenizer.encode(words, add_special_tokens=False))[: self.cap]

    @torch.no_grad()
    def next_logprobs(self, words: Sequence[str], batch_size: int = 64) -> Float[Tensor, "n vocab"]:
        """What the reader expects behind the words."""
        found = [
            self.model(**batch, logits_to_keep=1, use_cache=False).logits[:, -1].float().log_softmax(-1).cpu()
            for batch, _ in self._padded(words, batch_size)
        ]
        return _in_order(found, self._order(words))

    def features(self, words: Sequence[str], layer: int) -> Float[Tensor, "n two_d"]:
        """The reader's own states about the words: that of the last token, and the mean, at the output of a block.

        They are kept: a text is read once. Of a text that begins another one in the same call, nothing is read.
        """
        if layer not in self._states:
            self._states[layer] = BlockStates(self.model, layer, self.begin[0])
        return self._states[layer]([self.ids(text) for text in words])

    def _order(self, words: Sequence[str]) -> list[int]:
        return sorted(range(len(words)), key=lambda row: len(words[row]))

    def _padded(self, words: Sequence[str], batch_size: int) -> Any:
        order = self._order(words)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        for rows in batches:
            yield self._batch([self.ids(words[row]) for row in rows])

    def _batch(self, texts: Sequence[list[int]]) -> tuple[dict[str, Tensor], Tensor]:
        """Left-padded texts, so that all end in the same column."""
        width = max(map(len, texts))
        ids = torch.tensor([[self.begin[0]] * (width - len(text)) + text for text in texts])
        mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts])
        device = device_of(self.model)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        return {
            "input_ids": ids.to(device), "attention_mask": mask.to(device), "position_ids": places.to(device),
        }, mask  # fmt: skip

    @torch.no_grad()
    def _behind(
        self, texts: Sequence[list[int]], candidates: Sequence[Sequence[Sequence[int]]]
    ) -> Float[Tensor, "n k"]:
        number, length = len(candidates[0]), len(candidates[0][0])
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        step = max(1, _LOGITS // (number * length * int(self.model.config.get_text_config().vocab_size)))
        scores = torch.zeros(len(texts), number)
        batches = [order[start : start + step] for start in range(0, len(order), step)]
        for rows in batches:
            batch, mask = self._batch([texts[row] for row in rows])
            start = self.model(**batch, use_cache=length > 1, logits_to_keep=1)
            first = start.logits[:, -1:].repeat_interleave(number, 0)
            options = torch.tensor([list(one) for row in rows for one in candidates[row]], device=first.device)
            if length == 1:
                logits = first
            else:
                cache = start.past_key_values
                cache.batch_repeat_interleave(number)
                seen = mask.repeat_interleave(number, 0)
                places = seen.sum(1, keepdim=True) + torch.arange(length - 1)
                whole = torch.cat([seen, torch.ones(len(seen), length - 1, dtype=seen.dtype)], 1)
                rest = self.model(
                    options[:, :-1], attention_mask=whole.to(first.device), position_ids=places.to(first.device),
                    past_key_values=cache, use_cache=True,
                ).logits  # fmt: skip
                logits = torch.cat([first, rest], 1)
            chosen = logits.gather(-1, options[..., None])[..., 0].float()
            taken = (chosen - logits.float().logsumexp(-1)).mean(1)
            scores[rows] = taken.view(len(rows), number).cpu()
        return scores

    def _without(self, candidates: Sequence[Sequence[Sequence[int]]]) -> Float[Tensor, "n k"]:
        """Each candidate without words; every different one is read once."""
        distinct = list(dict.fromkeys(tuple(one) for row in candidates for one in row))
        new = [one for one in distinct if one not in self._alone]
        if new:
            found = self._behind([self.begin] * len(new), [[one] for one in new])[:, 0].tolist()
            self._alone |= dict(zip(new, found, strict=True))
        return torch.tensor([[self._alone[tuple(one)] for one in row] for row in candidates])


def _any_start(tokenizer: Any) -> int:
    known = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return int(next((one for one in known if one is not None), 0))


def _in_order(parts: list[Tensor], order: list[int]) -> Tensor:
    joined = torch.cat(parts)
    back = torch.empty(len(order), dtype=torch.long)
    back[order] = torch.arange(len(order))
    return joined[back]
