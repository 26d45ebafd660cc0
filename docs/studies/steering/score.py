"""Scores of steering prompt by prompt, so that seeds can be joined and intervals drawn over stories."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from docs.studies.steering.cases import Case
from tl_nla.benchmark.row_store import read_rows, write_rows

STORED_ROWS = Path(__file__).parent / "rows" / "steering_rows.safetensors"
_MEASURED = ("kl", "log_perplexity", "distance", "repetition", "leak", "target_probability")
_NONE = 255


@dataclass
class SteeringRows:
    """Scores of one trained pair on held-out prompts.

    Attributes:
        seed: of the pair's training.
        story: of each prompt.
        length: of each prompt, in tokens; with the story it names the prompt.
        values: metric -> arm -> a score a prompt, NaN where there is none. A strength other than 1 stands behind the
            arm as in ``edit_delta@0.5``, a layer as in ``told@layer_0``.
        unsteered: what the model says by itself; not stored.
    """

    seed: int
    story: Int[Tensor, " n"]
    length: Int[Tensor, " n"]
    values: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    unsteered: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, seed: int, cases: Sequence[Case]) -> "SteeringRows":
        """No scores yet."""
        return cls(seed, torch.tensor([case.story for case in cases]), torch.tensor([len(case.ids) for case in cases]))

    def put(self, metric: str, arm: str, place: int, value: float) -> None:
        """Enter the score of one prompt."""
        empty = torch.full((len(self.story),), float("nan"), dtype=torch.float64)
        self.values.setdefault(metric, {}).setdefault(arm, empty)[place] = value

    def chosen(self, like: "SteeringRows") -> "SteeringRows | None":
        """The rows of the prompts of others, in their order; ``None`` when some were not scored."""
        places = {key: place for place, key in enumerate(zip(self.story.tolist(), self.length.tolist(), strict=True))}
        keys = list(zip(like.story.tolist(), like.length.tolist(), strict=True))
        if not all(key in places for key in keys):
            return None
        rows = torch.tensor([places[key] for key in keys])
        values = {metric: {arm: column[rows] for arm, column in arms.items()} for metric, arms in self.values.items()}
        return SteeringRows(self.seed, self.story[rows], self.length[rows], values)


def save_rows(rows: Sequence[SteeringRows], path: Path) -> None:
    """Store the scores of several seeds in one safetensors file: counts as bytes, measures in half precision."""
    named: dict[str, Tensor] = {}
    about: dict[str, str] = {}
    for one in rows:
        named |= {f"{one.seed}/story": one.story.to(torch.int16), f"{one.seed}/length": one.length.to(torch.int16)}
        for metric, arms in one.values.items():
            table = torch.stack(list(arms.values()))
            counts = table.nan_to_num(_NONE).to(torch.uint8)
            named[f"{one.seed}/values/{metric}"] = table.half() if metric in _MEASURED else counts
            about[f"{one.seed}/{metric}"] = json.dumps(list(arms))
    write_rows(path, named, about)


def load_rows(path: Path = STORED_ROWS) -> list[SteeringRows]:
    """Scores stored by :func:`save_rows`, by seed.

    Raises:
        InputError: when there is no such file.
    """
    found, about = read_rows(path, "this installation is not whole")
    by_seed: dict[int, SteeringRows] = {}
    for seed in sorted({int(name.split("/")[0]) for name in found}):
        by_seed[seed] = SteeringRows(seed, *(found[f"{seed}/{name}"].long() for name in ("story", "length")))
    for key, arms in about.items():
        seed_text, metric = key.split("/", 1)
        table = found[f"{seed_text}/values/{metric}"]
        values = table.double()
        if table.dtype == torch.uint8:
            values[table == _NONE] = float("nan")
        by_seed[int(seed_text)].values[metric] = dict(zip(json.loads(arms), values, strict=True))
    return list(by_seed.values())
