"""The baseline of two explanations: a state NLA explains the states before and after, a differ writes what changed.

The obvious way to put a write into words, and the one that failed where it was tried: two samples of the explanation
of one and the same state already differ. So the null is the same state twice, which no differ may call a change.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError

Differ = Callable[[str, str], str]
"""From the explanations before and after to a description of the change."""
UNCHANGED = "unchanged"
_CLAUSE = re.compile(r"[^.;\n]+")


@dataclass(frozen=True)
class TwoExplanations:
    """Explanations before and after, and what a differ makes of them.

    Attributes:
        before: explanations of the states before.
        after: explanations of the states after.
        change: the differ's words; :data:`UNCHANGED` for no change.
    """

    before: list[str]
    after: list[str]
    change: list[str]

    @property
    def unchanged(self) -> list[bool]:
        """Whether each pair is called unchanged."""
        return [text.strip().casefold().rstrip(".") == UNCHANGED for text in self.change]


def explain_twice(
    nla: Any, before: Float[Tensor, "n d_model"], after: Float[Tensor, "states d_model"], differ: Differ | None = None,
    temperature: float = 0.0, generator: torch.Generator | None = None, **settings: Any,
) -> TwoExplanations:  # fmt: skip
    """Explain two states and describe the change.

    Args:
        nla: a :class:`tl_nla.nla.NLA` of states, or anything with its ``generate``.
        before: states before, in model units.
        after: states after; give ``before`` again for the null.
        differ: what writes the change, such as a language model behind a function; :func:`word_differ` when ``None``.
        temperature: of both explanations; 0 is greedy.
        generator: of the samples; each state gets a draw of its own.
        settings: for ``nla.generate``.

    Raises:
        InputError: when the shapes differ.
    """
    if before.shape != after.shape:
        raise InputError(f"states before have shape {tuple(before.shape)}, those after {tuple(after.shape)}")
    both = torch.cat([before, after])
    texts = list(nla.generate(both, temperature=temperature, generator=generator, **settings).texts)
    first, second = texts[: len(before)], texts[len(before) :]
    return TwoExplanations(
        first, second, [(differ or word_differ)(one, two) for one, two in zip(first, second, strict=True)]
    )


def word_differ(before: str, after: str) -> str:
    """The deterministic differ: clauses that went and clauses that came, in their order; whole words, case aside.

    A clause ends at a full stop, a semicolon or a line break. Antisymmetric: with the texts exchanged, "gains" and
    "loses" change places.
    """
    old, new = _clauses(before), _clauses(after)
    gained = [clause for key, clause in new.items() if key not in old]
    lost = [clause for key, clause in old.items() if key not in new]
    parts = [f"{verb} {', '.join(clauses)}" for verb, clauses in (("gains", gained), ("loses", lost)) if clauses]
    return "; ".join(parts) if parts else UNCHANGED


def _clauses(text: str) -> dict[str, str]:
    parts = [part.strip() for part in _CLAUSE.findall(text)]
    return {" ".join(part.casefold().split()): part for part in parts if part}
