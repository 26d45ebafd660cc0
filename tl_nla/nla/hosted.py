"""An NLA on a server of Neuronpedia's interface: for one that does not fit this machine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.http import Patience, Server
from tl_nla.nla.inputs import check_acts, check_texts

MOST_POSITIONS = 512
"""Positions of one text that the server explains in one request."""


@dataclass(frozen=True)
class Described:
    """What a server says of a vector.

    Attributes:
        text: the explanation.
        cosine: of the vector that the server's reconstructor reads from it.
        mse: its squared error a dimension, both normalised to sqrt(d): 0 to 4.
    """

    text: str
    cosine: float
    mse: float


@dataclass(frozen=True)
class ExplainedToken:
    """One token of a text, explained by a server.

    Attributes:
        token: as the server's tokenizer writes it.
        position: in the text as the server tokenises it.
        description: what the server says of its state.
        norm: L2 norm of the state.
    """

    token: str
    position: int
    description: Described
    norm: float


class HostedNLA:
    """An NLA-like object: :class:`tl_nla.VerbalizerAdapter` takes it in the place of a :class:`tl_nla.NLA`.

    The server reads words back itself: it tells cosine and error of each explanation, but gives no vectors, so that
    steering through edited words is not possible with it. Vectors that are asked about leave this machine.

    Args:
        url: base address.
        key_variable: environment variable with the key; a server without keys needs none.
        patience: requests at once, further tries (a busy server is asked again), timeouts.

    Raises:
        InputError: when the server cannot be reached, or tells no size and layer.

    Example:
        >>> nla = HostedNLA("https://nla.example.org")
        >>> nla.verbalize(acts)
    """

    def __init__(self, url: str, key_variable: str = "NEURONPEDIA_API_KEY", patience: Patience | None = None) -> None:
        key = os.environ.get(key_variable, "")
        self.server = Server(url, {"X-SECRET-KEY": key} if key else None, patience or Patience(concurrency=4))
        self.health = self.server.ask("health")
        self.d_model, self.layer = (_number(self.health, name, url) for name in ("d_model", "extraction_layer"))
        self.mean: Tensor | None = None

    @property
    def site(self) -> str:
        """Hook point of the vectors, in HookedTransformer's names."""
        return f"blocks.{self.layer}.hook_resid_post"

    def describe(
        self, acts: Float[Tensor, "n d_model"], max_new_tokens: int = 200, temperature: float = 0.0
    ) -> list[Described]:
        """Explanations of vectors with the server's own scores; one request a vector.

        Raises:
            InputError: for vectors of another size or not finite, or when the server fails.
        """
        check_acts(acts, self.d_model)
        rows = [[float(value) for value in row] for row in acts.float().cpu()]

        def body(row: list[float]) -> dict[str, Any]:
            return {"activations": [row], "max_new_tokens": max_new_tokens, "temperature": temperature}

        return self.server.ask_all("describe", rows, body, lambda _, reply: _described(_first(reply)))

    def verbalize(self, acts: Float[Tensor, "n d_model"], **settings: Any) -> list[str]:
        """Explanations of vectors; ``settings`` as for :meth:`describe`."""
        return [found.text for found in self.describe(acts, **settings)]

    def reconstruct(self, texts: Sequence[str]) -> Float[Tensor, "n d_model"]:
        """Not possible.

        Raises:
            InputError: always.
        """
        raise InputError("a hosted NLA gives no vectors back from words; use score(texts, acts), or an NLA of your own")

    def score(self, texts: Sequence[str], acts: Float[Tensor, "n d_model"]) -> Float[Tensor, "n two"]:
        """Squared error (0 to 4) and cosine of what the server reads from each text, against a vector.

        Raises:
            InputError: when there is not one text a vector.
        """
        check_acts(acts, self.d_model)
        if len(check_texts(texts, "texts")) != len(acts):
            raise InputError(f"{len(texts)} texts for {len(acts)} vectors; give one a vector")
        pairs = [(text, row.tolist()) for text, row in zip(texts, acts.float().cpu(), strict=True)]

        def body(pair: tuple[str, list[float]]) -> dict[str, Any]:
            return {"description": pair[0], "activation": pair[1]}

        return torch.tensor(self.server.ask_all("score", pairs, body, lambda _, reply: _scores(reply)))

    def compare(self, first: Float[Tensor, " d_model"], second: Float[Tensor, " d_model"]) -> Described:
        """What the server says of the difference of two vectors, ``first - second``."""
        check_acts(torch.stack([first, second]), self.d_model)
        body = {"activation_a": first.float().tolist(), "activation_b": second.float().tolist()}
        return _described(self.server.ask("compare", body))

    def explain(self, text: str, positions: Sequence[int], **settings: Any) -> list[ExplainedToken]:
        """Explanations of the server's own states on a text: no model is needed here.

        Args:
            text: what the server's target reads.
            positions: as the server tokenises it, at most 512.
            settings: more fields of the request, such as ``temperature`` or ``max_new_tokens``.

        Raises:
            InputError: for too many positions, or when the server fails.
        """
        if not 0 < len(positions) <= MOST_POSITIONS:
            raise InputError(f"{len(positions)} positions were given; a request takes 1 to {MOST_POSITIONS}")
        reply = self.server.ask("explain", {"text": text, "positions": list(positions), **settings})
        try:
            return [ExplainedToken(str(row["token"]), int(row["position"]), _described(row), float(row["l2_norm"]))
                    for row in reply["results"]]  # fmt: skip
        except (LookupError, TypeError, ValueError) as error:
            raise _strange("explain", error) from error


def _first(reply: Any) -> Any:
    rows = reply.get("results") if isinstance(reply, dict) else reply
    return rows[0] if isinstance(rows, list) and rows else reply


def _described(reply: Any) -> Described:
    try:
        return Described(str(reply["description"]), float(reply["cosine_similarity"]), float(reply["mse"]))
    except (LookupError, TypeError, ValueError) as error:
        raise _strange("describe", error) from error


def _scores(reply: Any) -> tuple[float, float]:
    try:
        return float(reply["mse"]), float(reply["cosine_similarity"])
    except (LookupError, TypeError, ValueError) as error:
        raise _strange("score", error) from error


def _number(health: Any, name: str, url: str) -> int:
    found = health.get(name) if isinstance(health, dict) else None
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise InputError(f"{url}/health tells {name} {found!r}; it is no server of this interface, or not ready yet")
    return found


def _strange(route: str, error: Exception) -> InputError:
    return InputError(f"the server's answer to /{route} lacks something ({type(error).__name__}: {error})")
