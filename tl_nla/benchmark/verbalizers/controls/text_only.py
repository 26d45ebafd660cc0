"""The text-only black box: it sees the text and the same base model, never the vector."""

from typing import Any

import torch

from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, words_of
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.subject import predictions
from tl_nla.benchmark.verbalizers.words import Arm, quote_end
from tl_nla.data.progress import told
from tl_nla.explainers.mechanical import recent_and_next
from tl_nla.model.control import control_ids
from tl_nla.model.probe import device_of
from tl_nla.nla.prompts import end_of_response

_RECENT, _GUESSES, _FLOOR = 6, 3, 0.1
_BATCH = 64


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

    guessed: dict[tuple[int, ...], str] = {}
    goes_on: dict[tuple[int, ...], list[int]] = {}

    def guesses(rows: Rows, lengths: list[int]) -> list[str]:
        new = [list(past) for past in dict.fromkeys(map(tuple, rows.past)) if past not in guessed]
        for past, logprobs in zip(new, predictions(target.model, new) if new else [], strict=True):
            top = logprobs.exp().topk(_GUESSES)
            chances, ids = top.values.tolist(), top.indices.tolist()
            pairs = [(tokenizer.decode([token]), chance) for chance, token in zip(chances, ids, strict=True)]
            kept = pairs[:1] + [pair for pair in pairs[1:] if pair[1] >= _FLOOR]
            guessed[tuple(past)] = " ".join(recent_and_next(tokenizer.decode(plain(past)[-_RECENT:]), kept))
        return [guessed[tuple(past)] for past in rows.past]

    def continuation(rows: Rows, lengths: list[int]) -> list[str]:
        wanted: dict[tuple[int, ...], int] = {}
        for past, many in zip(map(tuple, rows.past), lengths, strict=True):
            wanted[past] = max(many, wanted.get(past, 1))
        new = {past: many for past, many in wanted.items() if len(goes_on.get(past, [])) < many}
        goes_on.update(_continued(language_model, tokenizer, new))
        return [
            tokenizer.decode(goes_on[tuple(past)][:many], skip_special_tokens=True)
            for past, many in zip(rows.past, lengths, strict=True)
        ]

    named = {"end": end, "start": start, "keywords": keywords, "guesses": guesses, "continuation": continuation}
    return [Arm(f"black_box_{name}", say, sees="text", keeps="end" if name == "end" else "start")
            for name, say in named.items()]  # fmt: skip


@torch.no_grad()
def _continued(model: Any, tokenizer: Any, wanted: dict[tuple[int, ...], int]) -> dict[tuple[int, ...], list[int]]:
    """Greedy continuations of texts by the base model, at least so many tokens of each; texts of alike length first."""
    order = sorted(wanted, key=len)
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 10**9)
    filler, found = end_of_response(tokenizer), dict[tuple[int, ...], list[int]]()
    for texts in told(batches, "going on with the texts"):
        many = max(wanted[text] for text in texts)
        own = [list(text[-(limit - many) :]) for text in texts]
        width = max(map(len, own))
        ids = torch.tensor([[one[0]] * (width - len(one)) + one for one in own], device=device_of(model))
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in own], device=ids.device)
        said = model.generate(
            ids, attention_mask=mask, max_new_tokens=many, do_sample=False, temperature=None, top_p=None, top_k=None,
            pad_token_id=filler,
        )[:, width:]  # fmt: skip
        # A batch in which all have ended is shorter than asked for.
        rows = [answer + [filler] * (many - len(answer)) for answer in said.tolist()]
        found |= dict(zip(texts, rows, strict=True))
    return found
