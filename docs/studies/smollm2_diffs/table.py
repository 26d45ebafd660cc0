"""The page's tables from the stored rows."""

from collections.abc import Callable, Sequence
from typing import Any

from docs.studies.lines import correlation_of, mean_of, shown, table
from docs.studies.scored import by_seed

ARMS = (
    *("moved", "maps", "one_text", "sampled", "same_twice", "language_model", "later_alone", "earlier_alone"),
    *("shuffled", "context", "oracle", "logit_lens"),
)
_SHOWN = ("moved/words", "same_twice/words", "shuffled/words", "oracle/words", "logit_lens/words", "maps/reconstructor",
          "one_text/reconstructor")  # fmt: skip

Rows = Sequence[dict[str, Any]]


def as_markdown(rows: Rows) -> str:
    """Which of ten writes by both readers, and the rank correlation of the amount told with the skip effect."""
    names = [row["document"] for row in rows]
    effect = [row["kl"] for row in rows]
    lines = []
    for arm in ARMS:
        cells = []
        for reader in ("words", "reconstructor"):
            key = f"{arm}/{reader}"
            having = key in rows[0]["right"]
            cells.append(shown(mean_of([row["right"][key] for row in rows], names)) if having else "")
        for key in (arm, f"{arm}/reconstructor"):
            values = [row["amount"].get(key, 0.0) for row in rows]
            cells.append(shown(correlation_of(values, effect, names)) if len(set(values)) > 1 else "")
        lines.append([f"`{arm}`", *cells])
    size = shown(correlation_of([row["size"] for row in rows], effect, names))
    lines.append(["norm of the write over that of the state", "", "", "", size])
    header = ["arm", "which of ten: words", "which of ten: reconstructor", "skip effect: words", "skip effect: vectors"]
    counts = table(["pair", "words that differ"], [
        [f"`{arm}`", shown(mean_of([row["amount"][arm] for row in rows], names), 1)]
        for arm in ("moved", "maps", "sampled", "same_twice")])  # fmt: skip
    seeds = by_seed(rows, {"which of ten, `{}`, {}".format(*key.split("/")): _share(key) for key in _SHOWN})
    return f"{table(header, lines)}\n{counts}\n{seeds}"


def _share(key: str) -> Callable[[Rows], float]:
    return lambda rows: sum(row["right"][key] for row in rows) / len(rows)
