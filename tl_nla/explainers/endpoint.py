"""Explanations from a server with OpenAI's chat interface: hosted, or your own (vLLM, llama.cpp, Ollama)."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl_nla.amounts import check_count, check_number
from tl_nla.errors import InputError
from tl_nla.explainers.base import Moment
from tl_nla.explainers.cache import AnswerCache
from tl_nla.explainers.prompting import PromptTemplates
from tl_nla.http import Patience, Server

_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True)
class EndpointConfig:
    """Where and how a server is asked.

    Attributes:
        url: base address, such as ``"http://localhost:8000/v1"``; ``/chat/completions`` is added.
        model: name of the model there.
        key_variable: environment variable with the key; a server without keys needs none.
        max_tokens: cap of an answer.
        temperature: 0 for the server's greedy answers.
        prices: of a million tokens read and written, for :meth:`EndpointExplainer.cost`.
        patience: requests at once, further tries, timeouts.

    Raises:
        InputError: for a value that cannot be used.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    max_tokens: int = 120
    temperature: float = 0.0
    prices: tuple[float, float] = (0.0, 0.0)
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        Server(self.url)
        check_count("max_tokens", self.max_tokens)
        check_number("temperature", self.temperature, 0.0)


@dataclass(frozen=True)
class Cost:
    """What asking would take.

    Attributes:
        requests: questions that are not answered yet.
        read: tokens to be read, about (four characters a token).
        written: tokens to be written at most.
        price: in the currency of the prices.
    """

    requests: int
    read: int
    written: int
    price: float


@dataclass
class EndpointExplainer:
    """Asks a server about each moment (a :class:`tl_nla.explainers.base.BatchExplainer`).

    Answers are kept in ``cache`` as they come: a run that was cut off asks the rest only. Nothing but the texts and the
    model's guesses (of writes: their labels) is sent.

    Args:
        config: where and how.
        cache: a JSON-lines file for the answers; in memory only when ``None``.
        templates: what is asked.
        progress: called with the number of answers so far and of all.

    Example:
        >>> explainer = EndpointExplainer(EndpointConfig("http://localhost:8000/v1", "qwen3"), "answers.jsonl")
        >>> explainer.cost(moments).requests
        1000
    """

    config: EndpointConfig
    cache: str | Path | None = None
    templates: PromptTemplates = field(default_factory=PromptTemplates)
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        self.answers = AnswerCache(self.cache)

    def __call__(self, text: str, moments: Sequence[Moment]) -> list[tuple[str, None]]:
        """See :data:`tl_nla.explainers.Explainer`."""
        return [(answer, None) for answer in self.explain_all(moments)]

    def explain_all(self, moments: Sequence[Moment]) -> list[str]:
        """One explanation a moment; equal questions are asked once.

        Raises:
            InputError: when the server refuses, cannot be reached, or gives no text. Answers that came are kept.
        """
        questions = [self._question(moment) for moment in moments]
        open_ones = self._open(questions)
        if open_ones:
            self._server().ask_all("chat/completions", open_ones, dict, self._keep, self.progress)
        return [str(self.answers.get(question)) for question in questions]

    def cost(self, moments: Sequence[Moment]) -> Cost:
        """What explaining these moments would take, without asking anything."""
        open_ones = self._open([self._question(moment) for moment in moments])
        read = sum(len(message["content"]) for one in open_ones for message in one["messages"]) // _CHARACTERS_A_TOKEN
        written = self.config.max_tokens * len(open_ones)
        price = (read * self.config.prices[0] + written * self.config.prices[1]) / 1e6
        return Cost(len(open_ones), read, written, price)

    def _question(self, moment: Moment) -> dict[str, Any]:
        return {
            "model": self.config.model,
            "messages": [{"role": "user", "content": self.templates.prompt(moment)}],
            "max_tokens": self.config.max_tokens,
            "temperature": self.config.temperature,
        }

    def _open(self, questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        unique = {question["messages"][0]["content"]: question for question in questions}
        return [question for question in unique.values() if self.answers.get(question) is None]

    def _server(self) -> Server:
        key = os.environ.get(self.config.key_variable, "")
        return Server(self.config.url, {"Authorization": f"Bearer {key}"} if key else None, self.config.patience)

    def _keep(self, question: dict[str, Any], reply: Any) -> None:
        self.answers.put(question, _answer(reply, self.config.url))


def _answer(reply: Any, url: str) -> str:
    try:
        text = reply["choices"][0]["message"]["content"]
    except (LookupError, TypeError) as error:
        told = f"{url} gave no chat answer ({type(error).__name__})"
        raise InputError(f"{told}; give the address of an OpenAI-compatible server") from error
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{url} gave an empty answer; raise max_tokens, or choose another model")
    return text.strip()
