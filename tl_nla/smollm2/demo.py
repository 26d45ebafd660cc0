"""``python -m tl_nla.smollm2.demo``: what each part of SmolLM2 contributed to " Paris", and every state in words."""

import sys
import time
from typing import Any

from tl_nla.errors import InputError
from tl_nla.smollm2.loading import NAME, load_smollm2

TEXT, TARGET = "The capital of France is", " Paris"
HEADS, SURE = 2, 0.5
"""Heads of each layer that are shown, and the least probability of words that are."""


def run(console: Any = None) -> None:
    """Print the contributions in the oracle's words and every token's state in those of the NLA.

    Without an oracle the words are labels computed from the model; one line says what does not ship.

    Args:
        console: a rich console; one on the standard output when ``None``.

    Raises:
        InputError: when the weights are not to be had; it says how to get them.
    """
    from tl_nla.cli.contributions import print_report
    from tl_nla.cli.terminal import make_console
    from tl_nla.reports import layer_contributions
    from tl_nla.reports.progress import progress

    console, begun = console or make_console(), time.monotonic()
    smol = load_smollm2()
    oracle, nla = shipped(smol, "oracle"), shipped(smol, "nla")
    with progress() as tell:
        report = layer_contributions(
            smol.model, TEXT, oracle, TARGET, tokenizer=smol.tokenizer, name=NAME, tell=tell
        )  # fmt: skip
    print_report(console, report, HEADS)
    if nla is not None:
        _print_states(console, smol, nla)
    missing = [name for name, part in (("oracle", oracle), ("NLA", nla)) if part is None]
    if missing:
        words = ": the words above are labels" if oracle is None else ""
        console.print(f"No {' and no '.join(missing)} ships with {NAME} yet{words}.", style="dim")
    console.print(f"{time.monotonic() - begun:.0f} seconds", style="dim")


def shipped(smol: Any, part: str) -> Any | None:
    """A part that is made for the model; ``None`` where this installation has none, or it is for other weights.

    Args:
        smol: see :func:`tl_nla.load_smollm2`.
        part: ``"oracle"`` or ``"nla"``.
    """
    try:
        return getattr(smol, part, None)
    except InputError:
        return None


def _print_states(console: Any, smol: Any, nla: Any) -> None:
    from tl_nla.cli.demo import words_table
    from tl_nla.cli.explaining import explain_text
    from tl_nla.model.targets import Target
    from tl_nla.nla import SureWords

    explained = explain_text(Target(NAME, smol.model, smol.tokenizer), SureWords(nla, SURE), TEXT)
    console.print(words_table(explained, NAME, nla.layer))
    console.print(f"…: words that were said with a probability below {SURE}", style="dim")


if __name__ == "__main__":
    try:
        run()
    except InputError as error:
        sys.exit(f"tl-nla: {error}")
