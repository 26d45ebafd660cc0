"""Who asks an oracle often knows which component each write is from; oracles of words need not tell it themselves."""

from collections.abc import Sequence
from typing import Any


def site_settings(oracle: Any, sites: Sequence[Any]) -> dict[str, Any]:
    """Settings for ``oracle.explain`` that name the component of each write.

    Args:
        oracle: any; one that is trained sees the vectors alone, and gets no settings.
        sites: of each write.

    Returns:
        ``sites`` for a :class:`tl_nla.oracle.words.WordOracle`, ``None`` where it has no words for one; else nothing.
    """
    known = getattr(getattr(oracle, "code", None), "sites", None)
    return {} if known is None else {"sites": [str(site) if str(site) in known else None for site in sites]}
