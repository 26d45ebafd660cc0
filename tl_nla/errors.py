"""The one exception for what a user can get wrong, and the wording it uses."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what was found and what would be right.

    The command line turns it into one line on standard error and exit code 2.
    """


def unknown(kind: str, name: object, options: Iterable[str], limit: int = 5) -> InputError:
    """Build the error for a name that is not among the allowed ones.

    Args:
        kind: what the name stands for, such as ``"hook point"``.
        name: the name that was given.
        options: all names that would have been right.
        limit: how many names the message lists at most.

    Returns:
        An ``InputError`` that lists the nearest allowed names, or the first ones when none is near.
    """
    allowed = list(options)
    near = difflib.get_close_matches(str(name), allowed, n=limit, cutoff=0.5)
    if near:
        return InputError(f"unknown {kind} {str(name)!r}; nearest: {', '.join(near)}")
    shown = ", ".join(allowed[:limit]) + (", ..." if len(allowed) > limit else "")
    return InputError(f"unknown {kind} {str(name)!r}; allowed: {shown or 'none'}")
