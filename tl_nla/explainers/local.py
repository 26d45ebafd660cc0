"""Explanations by a language model on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.explainers.base import Moment
from tl_nla.explainers.cache import AnswerCache
from tl_nla.explainers.prompting import PromptTemplates
from tl_nla.model.loading import load_causal_lm, load_tokenizer


class LocalModelExplainer:
    """Asks a causal language model about each moment, greedily (a :class:`tl_nla.explainers.base.BatchExplainer`).

    Args:
        model: a Hugging Face causal language model, or the folder or hub id of one.
        tokenizer: of a model given as an object.
        cache: a JSON-lines file for the answers; in memory only when ``None``. One file is for one model.
        templates: what is asked; a chat template of the tokenizer is used where it has one.
        max_new_tokens: cap of an answer.
        batch_size: questions at once.

    Raises:
        InputError: when the model cannot be loaded, or a number is too small.
    """

    def __init__(
        self, model: Any, tokenizer: Any = None, cache: str | Path | None = None,
        templates: PromptTemplates | None = None, max_new_tokens: int = 60, batch_size: int = 8,
    ) -> None:  # fmt: skip
        named = isinstance(model, str | Path)
        self.model = load_causal_lm(model, torch.float32).eval() if named else model
        self.tokenizer = load_tokenizer(model) if named else tokenizer
        if self.tokenizer is None:
            raise InputError("a model given as an object needs its tokenizer, too")
        self.name = str(model) if named else str(getattr(model.config, "_name_or_path", ""))
        self.answers, self.templates = AnswerCache(cache), templates or PromptTemplates()
        self.max_new_tokens = check_count("max_new_tokens", max_new_tokens)
        self.batch_size = check_count("batch_size", batch_size)

    def __call__(self, text: str, moments: Sequence[Moment]) -> list[tuple[str, None]]:
        """See :data:`tl_nla.explainers.Explainer`."""
        return [(answer, None) for answer in self.explain_all(moments)]

    def explain_all(self, moments: Sequence[Moment]) -> list[str]:
        """One explanation a moment; equal questions are asked once.

        Raises:
            InputError: when the model says nothing.
        """
        questions = [self.templates.prompt(moment) for moment in moments]
        open_ones = [one for one in dict.fromkeys(questions) if self.answers.get(self._key(one)) is None]
        open_ones.sort(key=len)
        for start in range(0, len(open_ones), self.batch_size):
            batch = open_ones[start : start + self.batch_size]
            for question, answer in zip(batch, self._ask(batch), strict=True):
                self.answers.put(self._key(question), answer)
        return [str(self.answers.get(self._key(question))) for question in questions]

    def _key(self, question: str) -> list[Any]:
        return [self.name, self.max_new_tokens, question]

    @torch.no_grad()
    def _ask(self, questions: Sequence[str]) -> list[str]:
        rows = [self._prompt(question) for question in questions]
        pad = self.tokenizer.pad_token_id
        pad = int(pad if pad is not None else (self.tokenizer.eos_token_id or 0))
        width = max(map(len, rows))
        device = self.model.get_input_embeddings().weight.device
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        found = self.model.generate(
            ids, attention_mask=mask, max_new_tokens=self.max_new_tokens, do_sample=False, pad_token_id=pad
        )
        texts = [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in found[:, width:]]
        for text, question in zip(texts, questions, strict=True):
            if not text:
                raise InputError(f"the model said nothing to {question[-60:]!r}; choose another model or template")
        return texts

    def _prompt(self, question: str) -> list[int]:
        if getattr(self.tokenizer, "chat_template", None):
            message = [{"role": "user", "content": question}]
            text = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            return list(self.tokenizer.encode(text, add_special_tokens=False))
        return list(self.tokenizer.encode(question))
