"""Explainers made of a function of your own, or chosen by name."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

from tl_nla.errors import InputError, unknown
from tl_nla.explainers.base import Explainer, Moment
from tl_nla.explainers.column import ColumnExplainer
from tl_nla.explainers.mechanical import explain_mechanically
from tl_nla.explainers.sentence import explain_by_sentence
from tl_nla.explainers.short import ShortExplainer

Named = Literal["mechanical", "column", "sentence", "short"]
"""The names of :data:`NAMED`, for settings: jsonargparse writes a name down again where the type says it."""

NAMED: dict[str, Callable[[], Explainer]] = {
    "mechanical": lambda: explain_mechanically,
    "column": ColumnExplainer,
    "sentence": lambda: explain_by_sentence,
    "short": ShortExplainer,
}
"""What ``explainer:`` may be in a YAML file, beside a class with its arguments."""


def each_moment(function: Callable[[Moment], str]) -> Explainer:
    """An explainer of a function from one moment to its explanation.

    Args:
        function: from a :class:`Moment` to a text.

    Example:
        >>> explainer = each_moment(lambda moment: f"The text ends in {moment.recent!r}.")
    """

    def explain(text: str, moments: Sequence[Moment]) -> list[tuple[str, Any]]:
        return [(_text(function(moment)), None) for moment in moments]

    return explain


def as_explainer(given: Any) -> Explainer:
    """An explainer by its name, or made of a function.

    Args:
        given: a name in :data:`NAMED`; an :data:`Explainer`; or a function of one argument, which gets a
            :class:`Moment` and gives its text.

    Raises:
        InputError: for an unknown name, or what cannot be called.
    """
    if isinstance(given, str):
        if given not in NAMED:
            raise unknown("explainer", given, NAMED)
        return NAMED[given]()
    if not callable(given):
        raise InputError(f"explainer is {given!r}; give one of {', '.join(NAMED)}, or a function")
    explainer: Explainer = each_moment(given) if _takes_one(given) else given
    return explainer


def _takes_one(function: Any) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.kind in positional and one.default is inspect.Parameter.empty]
    return len(needed) == 1


def _text(found: Any) -> str:
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"the explainer gave {found!r}; it must give a text for every moment")
    return found
