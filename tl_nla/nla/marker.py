"""The marker, which stands in a prompt where a vector goes: chosen inside the rendered prompt, or added as a token."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tl_nla.errors import InputError
from tl_nla.model.families import without_adapter
from tl_nla.nla.prompts import AV_TEMPLATE, CLOSE, OPEN, build_verbalizer_prompt, check_template

ADDED_CHAR = "\u320e"
"""The character that becomes a token where a tokenizer has none that will do."""
_RARE = range(0x3200, 0x3400)
"""The released recipe's range. Labels name none of these, and texts hardly ever hold one; the symbols and letters that
other vocabularies have instead do occur in texts, so a token of our own is better there."""


@dataclass(frozen=True)
class Marker:
    """A marker with the tokenizer that knows it.

    Attributes:
        char: one token wherever it stands in the prompts.
        tokenizer: the one given, or a copy with the tokens that were added.
        added: ids of those tokens; a model needs an embedding for each (:func:`make_room`).
    """

    char: str
    tokenizer: Any
    added: tuple[int, ...] = ()


def choose_marker(
    tokenizer: Any, templates: Sequence[str], slots: Sequence[int] = (1,), char: str | None = None, tags: bool = False
) -> Marker:
    """Find a rare character that is one token inside the rendered prompts, or add one to a copy of the tokenizer.

    A character alone says little: tokenizers like Llama 2's put a space in front of a text, others join neighbours.

    Args:
        tokenizer: left as it is.
        templates: of the prompts, each with ``{injection_char}`` once.
        slots: how often in a row the marker has to be readable.
        char: use this one, or refuse it.
        tags: also add the explanation tags where the tokenizer could not write them.

    Raises:
        InputError: when a template cannot be used, or the character that was given is not one token in a prompt.
    """
    for template in templates:
        check_template(template)
    lost = [tag for tag in (OPEN, CLOSE) if tags and not _writes(tokenizer, tag)]
    if char is None:
        char = next((found for found in _candidates(tokenizer) if _fits(tokenizer, templates, slots, found)), None)
    else:
        _check(tokenizer, templates, slots, char)
    wanted = lost if char is not None else [*lost, ADDED_CHAR]
    if not wanted:
        return Marker(str(char), tokenizer)
    larger, added = _with_tokens(tokenizer, wanted)
    _check(larger, templates, slots, char or ADDED_CHAR)
    return Marker(char or ADDED_CHAR, larger, added)


def choose_injection_char(tokenizer: Any, template: str = AV_TEMPLATE, slots: int = 1) -> str:
    """First character of the released recipe's range (U+3200 to U+33FF) that is one known token inside the prompt.

    Raises:
        InputError: when the tokenizer has none; :func:`choose_marker` adds one.
    """
    check_template(template)
    for char in _candidates(tokenizer):
        if _fits(tokenizer, [template], (slots,), char):
            return char
    raise InputError(
        "the tokenizer has no rare character that is a single token in the prompt; NLA.create and DiffOracle.create "
        "add one"
    )


@torch.no_grad()
def make_room(model: Any, marker: Marker) -> None:
    """Give a model embeddings for added tokens, in place: the mean of all others, in the input and the output."""
    if not marker.added:
        return
    from tl_nla.model.loading import quiet

    inner = without_adapter(model)
    if max(marker.added) >= inner.get_input_embeddings().weight.shape[0]:
        with quiet():
            inner.resize_token_embeddings(max(marker.added) + 1, mean_resizing=False)
    for layer in (inner.get_input_embeddings(), inner.get_output_embeddings()):
        for weight in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
            if weight is not None:
                weight[list(marker.added)] = weight[: min(marker.added)].mean(0, dtype=torch.float32).to(weight)


def _candidates(tokenizer: Any) -> Iterator[str]:
    """Rare characters that end in a token of their own when they are tokenised alone."""
    chars = [chr(code) for code in _RARE]
    for char, ids in zip(chars, tokenizer(chars, add_special_tokens=False)["input_ids"], strict=True):
        if len(ids) in (1, 2) and tokenizer.decode(ids[-1:]).strip() == char:
            yield char


def _fits(tokenizer: Any, templates: Sequence[str], slots: Sequence[int], char: str) -> bool:
    try:
        _check(tokenizer, templates, slots, char)
    except InputError:
        return False
    return True


def _check(tokenizer: Any, templates: Sequence[str], slots: Sequence[int], char: str) -> None:
    for template in templates:
        for count in slots:
            build_verbalizer_prompt(tokenizer, template, char, count)


def _writes(tokenizer: Any, text: str) -> bool:
    """Whether a text comes back from its tokens."""
    return text in tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))


def _with_tokens(tokenizer: Any, texts: Sequence[str]) -> tuple[Any, tuple[int, ...]]:
    """A copy of a tokenizer with further tokens that stand for themselves wherever they are met."""
    from tokenizers import AddedToken

    larger, known = copy.deepcopy(tokenizer), set(tokenizer.get_vocab().values())
    larger.add_tokens([AddedToken(text, special=text == ADDED_CHAR, normalized=False) for text in texts])
    return larger, tuple(number for number in larger.convert_tokens_to_ids(list(texts)) if number not in known)
