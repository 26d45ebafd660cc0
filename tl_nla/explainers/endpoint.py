"""Explanations from a server with OpenAI's chat interface: hosted, or your own (vLLM, llama.cpp, Ollama)."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tl_nla.amounts import check_count, check_number
from tl_nla.errors import InputError
from tl_nla.explainers.base import Moment
from tl_nla.explainers.cache import AnswerCache
from tl_nla.explainers.prompting import PromptTemplates

_AGAIN = (408, 409, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0
_CHARACTERS_A_TOKEN = 4
_TOLD = 200


@dataclass(frozen=True)
class EndpointConfig:
    """Where and how a server is asked.

    Attributes:
        url: base address, such as ``"http://localhost:8000/v1"``; ``/chat/completions`` is added.
        model: name of the model there.
        key_variable: environment variable with the key; a server without keys needs none.
        concurrency: requests at once.
        retries: further tries after a timeout, a refusal for load, or a fault of the server.
        wait: seconds before the first further try; it doubles each time, unless the server names a time.
        timeout: seconds for one answer.
        max_tokens: cap of an answer.
        temperature: 0 for the server's greedy answers.
        prices: of a million tokens read and written, for :meth:`EndpointExplainer.cost`.

    Raises:
        InputError: for a value that cannot be used.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    retries: int = 5
    wait: float = 1.0
    timeout: float = 60.0
    max_tokens: int = 120
    temperature: float = 0.0
    prices: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"url is {self.url!r}; give a base address such as 'http://localhost:8000/v1'")
        for name in ("concurrency", "max_tokens"):
            check_count(name, getattr(self, name))
        check_count("retries", self.retries, 0)
        for name in ("wait", "timeout", "temperature"):
            check_number(name, getattr(self, name), 0.0)


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
            self._ask_all(open_ones)
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

    def _ask_all(self, questions: Sequence[dict[str, Any]]) -> None:
        key = os.environ.get(self.config.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with ExitStack() as stack:
            client = stack.enter_context(httpx.Client(headers=headers, timeout=self.config.timeout))
            pool = stack.enter_context(ThreadPoolExecutor(self.config.concurrency))
            waiting = [pool.submit(self._ask, client, question) for question in questions]
            try:
                for count, done in enumerate(as_completed(waiting), 1):
                    done.result()
                    if self.progress is not None:
                        self.progress(count, len(questions))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, client: httpx.Client, question: dict[str, Any]) -> None:
        address, said = f"{self.config.url.rstrip('/')}/chat/completions", ""
        for wait in self._waits():
            try:
                reply = client.post(address, json=question)
            except httpx.TransportError as error:
                said, named = f"cannot be reached ({type(error).__name__})", None
            else:
                if reply.status_code not in _AGAIN:
                    self.answers.put(question, _answer(reply, address))
                    return
                said, named = f"answered {reply.status_code}", reply.headers.get("retry-after")
            if wait is not None:
                time.sleep(_seconds(named, wait))
        raise InputError(f"{address} {said} after {1 + self.config.retries} tries; run again to go on from here")

    def _waits(self) -> Iterator[float | None]:
        yield from (min(_LONGEST_WAIT, self.config.wait * 2.0**number) for number in range(self.config.retries))
        yield None


def _seconds(named: str | None, otherwise: float) -> float:
    """What the server asked for, or the next step of the doubling wait."""
    try:
        return min(_LONGEST_WAIT, max(0.0, float(named))) if named else otherwise
    except ValueError:
        return otherwise


def _answer(reply: httpx.Response, address: str) -> str:
    if reply.status_code != httpx.codes.OK:
        told = " ".join(reply.text.split())[:_TOLD]
        raise InputError(f"{address} answered {reply.status_code}: {told or 'nothing'}; check url, model and key")
    try:
        text = reply.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{address} gave no chat answer ({type(error).__name__}); is it an OpenAI interface?"
        ) from error
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{address} gave an empty answer; raise max_tokens, or choose another model")
    return text.strip()
