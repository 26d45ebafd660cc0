"""The skips of a report: beside a run that was kept at a few columns, or from all of it where that is not enough."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.attribution.beside import NotBesideError
from tl_nla.attribution.capture import capture
from tl_nla.attribution.clean_run import CleanRun
from tl_nla.attribution.components import Component
from tl_nla.attribution.left_out import Way
from tl_nla.attribution.skips import SkipEffects, Wanted, effects_of_run
from tl_nla.errors import InputError
from tl_nla.model.probe import lock_of
from tl_nla.reports.report_config import Tell


@dataclass(frozen=True)
class Skips:
    """Effects at the columns of a report, ``None`` where there are none to be had; ``notes`` say why."""

    effects: SkipEffects | None
    notes: tuple[str, ...]


def skips_of(
    model: Any, tokens: Int[Tensor, "1 pos"], runs: tuple[CleanRun, CleanRun], parts: list[Component],
    targets: Int[Tensor, "1 column"], tell: Tell,
) -> Skips:  # fmt: skip
    """Leave out every component at the columns of a report."""
    run, view = runs
    columns = view.places

    def told(done: int, total: int) -> None:
        tell("leaving out every layer and head", 0.1 + 0.7 * done / total)

    told(0, 1)
    try:
        with lock_of(model), torch.no_grad():
            if run.columns is not None:
                try:
                    way = Way(False, range(len(columns)))
                    return Skips(effects_of_run(model, run, Wanted(parts, way, targets, 0), told), ())
                except NotBesideError:
                    run = capture(model, tokens, solve=True)
            followed = torch.zeros_like(run.tokens)
            followed[:, list(columns)] = targets.to(followed.device)
            found = effects_of_run(model, run, Wanted(parts, Way(False, columns), followed, 0), told)
            return Skips(found.only(columns), ())
    except InputError as error:
        return Skips(None, (f"skips were left out: {error}",))
