"""A client for servers that may be busy: bounded concurrency, further tries, one clear line when it ends."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from tl_nla.amounts import check_count, check_number
from tl_nla.errors import InputError

_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0
_TOLD = 200
Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Patience:
    """How a server is asked.

    Attributes:
        concurrency: requests at once.
        retries: further tries after a timeout, a refusal for load, or a fault of the server.
        wait: seconds before the first further try; it doubles each time, unless the server names a time.
        timeout: seconds for one answer.

    Raises:
        InputError: for a number that is too small.
    """

    concurrency: int = 8
    retries: int = 5
    wait: float = 1.0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        check_count("concurrency", self.concurrency)
        check_count("retries", self.retries, 0)
        check_number("wait", self.wait, 0.0)
        check_number("timeout", self.timeout, 0.0)


class Server:
    """A server with JSON in and out.

    Args:
        url: base address.
        headers: of every request, such as a key.
        patience: how it is asked.

    Raises:
        InputError: for what is no address.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, patience: Patience | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"url is {url!r}; give a base address such as 'http://localhost:8000/v1'")
        self.url, self.headers, self.patience = url.rstrip("/"), dict(headers or {}), patience or Patience()

    def ask(self, route: str, body: Any = None) -> Any:
        """The JSON that a route answers with; a GET request where there is no body.

        Raises:
            InputError: when the server refuses, cannot be reached, or answers no JSON.
        """
        with self._client() as client:
            return self._ask(client, route, body)

    def ask_all(
        self, route: str, items: Sequence[Item], body: Callable[[Item], Any], take: Callable[[Item, Any], Found],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Found]:  # fmt: skip
        """Answers about several items, some at once.

        Args:
            route: of the server.
            items: what is asked about.
            body: of the request about one item.
            take: what becomes of an item's answer, called as soon as it is there: answers that came before a failure
                are not lost.
            progress: called with the number of answers so far and of all.

        Returns:
            What ``take`` gave, in the items' order.

        Raises:
            InputError: as :meth:`ask`; open requests are given up.
        """

        def one(client: httpx.Client, item: Item) -> Found:
            return take(item, self._ask(client, route, body(item)))

        with self._client() as client, ThreadPoolExecutor(self.patience.concurrency) as pool:
            waiting = [pool.submit(one, client, item) for item in items]
            try:
                for count, done in enumerate(as_completed(waiting), 1):
                    done.result()
                    if progress is not None:
                        progress(count, len(waiting))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return [future.result() for future in waiting]

    def _client(self) -> httpx.Client:
        return httpx.Client(headers=self.headers, timeout=self.patience.timeout)

    def _ask(self, client: httpx.Client, route: str, body: Any) -> Any:
        address, said = f"{self.url}/{route.lstrip('/')}", ""
        for wait in self._waits():
            try:
                reply = client.get(address) if body is None else client.post(address, json=body)
            except httpx.TransportError as error:
                said, named = f"cannot be reached ({type(error).__name__})", None
            else:
                if reply.status_code not in _AGAIN:
                    return _json(reply, address)
                said, named = f"answered {reply.status_code}", reply.headers.get("retry-after")
            if wait is not None:
                time.sleep(_seconds(named, wait))
        raise InputError(f"{address} {said} after {1 + self.patience.retries} tries; run again to go on from here")

    def _waits(self) -> Iterator[float | None]:
        yield from (min(_LONGEST_WAIT, self.patience.wait * 2.0**number) for number in range(self.patience.retries))
        yield None


def _seconds(named: str | None, otherwise: float) -> float:
    """What the server asked for, or the next step of the doubling wait."""
    try:
        return min(_LONGEST_WAIT, max(0.0, float(named))) if named else otherwise
    except ValueError:
        return otherwise


def _json(reply: httpx.Response, address: str) -> Any:
    if reply.status_code != httpx.codes.OK:
        told = " ".join(reply.text.split())[:_TOLD]
        raise InputError(f"{address} answered {reply.status_code}: {told or 'nothing'}; check address, names and key")
    try:
        return reply.json()
    except ValueError as error:
        raise InputError(f"{address} answered no JSON; give the address of the interface itself") from error
