"""The grammar of claims: how explanations are taken apart and checked. The caller passes it in.

Without a grammar a text makes no claims: clauses are of the kind ``"other"``, and what needs truth says so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tl_nla.errors import InputError

Verdict = Literal["true", "false", "untold"]
Truth = Any
"""What is known where an explanation was written; only the grammar's own ``check`` looks into it."""


@dataclass(frozen=True)
class Claim:
    """One atomic claim.

    Attributes:
        type: one of the grammar's types.
        subject: what it is about; empty where the type has no subject.
        value: what it says.
    """

    type: str
    subject: str
    value: str


@dataclass(frozen=True)
class ClaimGrammar:
    """How the explanations of one world are read.

    Attributes:
        types: of claims.
        parse: the claims of a text, whatever else it says.
        made: the claims of a text that are really made (a text may ask instead), given what is known.
        check: the verdict on a claim, given what is known.
        told: when the fact that a claim is about was told, in words from the start; ``None`` where it was not.
        values: words that a claim of a type may name.
        questions: word that names something -> question word that stands for its kind.
        forms: type -> wordings with slots ``{a}`` and ``{b}``; the first is the one explanations are written in.
        open_types: types whose slots hold any text, not one word.
        judge: whether a text bears a claim out, both given as text; ``None`` where the text alone cannot tell.
    """

    types: tuple[str, ...]
    parse: Callable[[str], list[Claim]]
    made: Callable[[str, Truth | None], list[Claim]]
    check: Callable[[Claim, Truth], Verdict]
    told: Callable[[Claim, Truth], int | None]
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    open_types: tuple[str, ...] = ()
    judge: Callable[[str, str], bool | None] | None = None


def _nothing(text: str, truth: Truth | None = None) -> list[Claim]:
    return []


def _refuse(claim: Claim, truth: Truth) -> Any:
    raise InputError("no grammar of claims is in use, so no claim can be checked; see use_grammar")


NO_GRAMMAR = ClaimGrammar((), _nothing, _nothing, _refuse, _refuse)
_in_use = [NO_GRAMMAR]


def use_grammar(grammar: ClaimGrammar) -> None:
    """Read all explanations by this grammar from now on."""
    _in_use[-1] = grammar


@contextmanager
def grammar_for(grammar: ClaimGrammar) -> Iterator[None]:
    """Read explanations by this grammar inside the block."""
    _in_use.append(grammar)
    try:
        yield
    finally:
        _in_use.pop()


def grammar() -> ClaimGrammar:
    """The grammar in use."""
    return _in_use[-1]


def parse_claims(explanation: str) -> list[Claim]:
    """The claims of a text."""
    return grammar().parse(explanation)


def made_claims(text: str, truth: Truth | None = None) -> list[Claim]:
    """The claims of a text without those that it leaves open."""
    return grammar().made(text, truth)


def check(claim: Claim, truth: Truth) -> Verdict:
    """Whether a claim is true, false, or about something untold."""
    return grammar().check(claim, truth)
