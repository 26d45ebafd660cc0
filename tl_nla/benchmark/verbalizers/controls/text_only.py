"""The text-only black box: it sees the text and the same base model, never the vector."""

from typing import Any

import torch

from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, words_of
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.subject import predictions
from tl_nla.benchmark.verbalizers.words import Arm, quote_end
from tl_nla.explainers.mechanical import recent_and_next
from tl_nla.model.control import control_ids
from tl_nla.model.probe import device_of

_RECENT, _GUESSES, _FLOOR = 6, 3, 0.1
_BATCH = 32


def text_only_arms(target: Any, language_model: Any, rarity: Rarity) -> list[Arm]:
    """Five black boxes: the end of the text, its start, its rarest words, the model's continuation, and its guesses.

    Args:
        target: the model, a :class:`tl_nla.model.targets.Target`.
        language_model: the same base model as a Hugging Face model, which continues the text.
        rarity: of words.
    """
    tokenizer = target.tokenizer
    control = set(control_ids(tokenizer))

    def plain(ids: list[int]) -> list[int]:
        return [token for token in ids if token not in control]

    def end(rows: Rows, lengths: list[int]) -> list[str]:
        return [quote_end(tokenizer, plain(past), many) for past, many in zip(rows.past, lengths, strict=True)]

    def start(rows: Rows, lengths: list[int]) -> list[str]:
        return [tokenizer.decode(plain(past)[:many]) for past, many in zip(rows.past, lengths, strict=True)]

    def keywords(rows: Rows, lengths: list[int]) -> list[str]:
        told_words = []
        for past, many in zip(rows.past, lengths, strict=True):
            words = dict.fromkeys(reversed(words_of(tokenizer.decode(plain(past)))))  # later words win a tie
            told_words.append(" ".join(sorted(words, key=rarity, reverse=True)[:many]))
        return told_words

    def guesses(rows: Rows, lengths: list[int]) -> list[str]:
        logprobs = predictions(target.model, rows.past)
        top = logprobs.exp().topk(_GUESSES)
        texts = []
        for past, chances, ids in zip(rows.past, top.values.tolist(), top.indices.tolist(), strict=True):
            pairs = [(tokenizer.decode([token]), chance) for chance, token in zip(chances, ids, strict=True)]
            kept = pairs[:1] + [pair for pair in pairs[1:] if pair[1] >= _FLOOR]
            texts.append(" ".join(recent_and_next(tokenizer.decode(plain(past)[-_RECENT:]), kept)))
        return texts

    def continuation(rows: Rows, lengths: list[int]) -> list[str]:
        return _continued(language_model, tokenizer, rows.past, lengths)

    named = {"end": end, "start": start, "keywords": keywords, "guesses": guesses, "continuation": continuation}
    return [Arm(f"black_box_{name}", say, sees="text", keeps="end" if name == "end" else "start")
            for name, say in named.items()]  # fmt: skip


@torch.no_grad()
def _continued(model: Any, tokenizer: Any, texts: list[list[int]], lengths: list[int]) -> list[str]:
    """Greedy continuations of texts by the base model."""
    found = [""] * len(texts)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 10**9)
    for rows in batches:
        many = max(1, *(lengths[row] for row in rows))
        own = [texts[row][-(limit - many) :] for row in rows]
        width = max(map(len, own))
        ids = torch.tensor([[one[0]] * (width - len(one)) + one for one in own], device=device_of(model))
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in own], device=ids.device)
        said = model.generate(
            ids, attention_mask=mask, max_new_tokens=many, do_sample=False, temperature=None, top_p=None, top_k=None,
            pad_token_id=int(ids[0, 0]),
        )[:, width:]  # fmt: skip
        for row, answer in zip(rows, said.tolist(), strict=True):
            found[row] = tokenizer.decode(answer[: lengths[row]], skip_special_tokens=True)
    return found
