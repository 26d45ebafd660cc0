"""Rewriters of explanations in the form ``Next: a, b. Recent: the last seven words``, and a language model as one."""

from collections.abc import Sequence
from typing import Any

from docs.studies.instructed import answers
from tl_nla.steering import Rewriter, append, compose, without_quotes
from tl_nla.steering.leaks import only

KEPT = 2
"""Of the recent words, how many a rewriter that displaces leaves alone."""
_CAP = 40


def displace(phrase: str, word: str | None = None) -> Rewriter:
    """The older recent words give way to a phrase; the next words to one word, where one is given.

    Args:
        phrase: such as ``"likes the colour yellow"``.
        word: expected next; the next words stay when ``None``.
    """

    def rewrite(text: str) -> str:
        first, _, recent = text.partition(". Recent: ")
        told = first if word is None else f"Next: {word}"
        return f"{told}. Recent: {' '.join([phrase, *recent.split()[-KEPT:]])}"

    return rewrite


def expecting(word: str) -> Rewriter:
    """The next words give way to one, and nothing else changes."""
    return lambda text: f"Next: {word}. Recent: {text.partition('. Recent: ')[2]}"


def rewriters(colour: str, thing: str, by_model: dict[str, str]) -> dict[str, Rewriter]:
    """Every arm that rewrites an explanation.

    Args:
        colour: that the writer shall like.
        thing: of this colour.
        by_model: what the language model makes of each explanation, and of ``""``.
    """
    phrase = f"likes the colour {colour}"
    edit = displace(phrase, colour)
    return {
        "append": append(phrase), "displace": displace(phrase), "next_only": expecting(colour), "edit": edit,
        "language_model": lambda text: by_model[text], "instruction_only": only(edit("")),
        "language_model_instruction_only": only(by_model[""]),
        "never_named": displace(f"likes the colour of {thing}"), "quotes_removed": compose(without_quotes, edit),
    }  # fmt: skip


def rewritten_by_model(model: Any, tokenizer: Any, colour: str, texts: Sequence[str]) -> dict[str, str]:
    """Let an instruction-tuned model rewrite explanations; ``""`` is what it writes without seeing any.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer, with a chat template.
        colour: that the writer shall like.
        texts: explanations.
    """
    ask = f"Rewrite this note so that it says that the writer likes the colour {colour}. Answer with the note alone."
    alone = f"Write a short note that says that the writer likes the colour {colour}. Answer with the note alone."
    asked = {text: f"{ask}\n\n{text}" if text else alone for text in ["", *texts]}
    return dict(zip(asked, answers(model, tokenizer, list(asked.values()), _CAP), strict=True))
