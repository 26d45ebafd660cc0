"""A code of words fitted to training writes: closed form, a component after the other."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.amounts import check_counts
from tl_nla.data.progress import told
from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.model.files import read_safetensors
from tl_nla.model.sites import Site
from tl_nla.oracle.labels import STEPS, StrengthReference
from tl_nla.oracle.words.choosing import fit_shapes
from tl_nla.oracle.words.code import WordCode, rounded, teller_inputs
from tl_nla.oracle.words.tables import MOST_WORDS, WordTables, whitened
from tl_nla.whole_file import whole

LEVELS = ("one", "two", "three", "four", "five", "six")
"""How far a write is from its component's mean: six equally frequent steps."""
_DECAY = 1e-2
_SMALLEST = 1e-6
_MEASURED = 400
"""Writes of a component whose norms are measured."""
WritesBySite = Mapping[str, tuple[Float[Tensor, "n d_model"], Float[Tensor, "n d_model"]]]


@dataclass(frozen=True)
class FitConfig:
    """How a code is fitted.

    Attributes:
        words: in an explanation at most.
        passes: choosing words and fitting their places' shapes anew, so many times.
        rows: writes of each component that words are chosen for; means and levels take all of them.
        told_rows: writes of each component that the classifier of components sees.
        width: components that write anywhere are told in the space of so many principal directions a word.
        head_words: the most frequent words that heads and attentions choose from.
        other_words: likewise of MLPs, blocks and all others, whose writes vary along more directions.
    """

    words: int = 16
    passes: int = 1
    rows: int = 600
    told_rows: int = 300
    width: int = 12
    head_words: int = 4096
    other_words: int = MOST_WORDS

    def __post_init__(self) -> None:
        check_counts(self, "words", "passes", "rows", "told_rows", "width", "head_words", "other_words")

    def chosen_from(self, site: str) -> int:
        """How many words a component chooses from, if there are so many."""
        return self.head_words if Site.parse(site).kind in ("head", "attn") else self.other_words


@torch.no_grad()
def fit_code(
    tables: WordTables, writes: WritesBySite, config: FitConfig | None = None, keep: Path | None = None
) -> tuple[WordCode, StrengthReference]:
    """Fit a code, and measure what norms are usual; deterministic.

    Args:
        tables: of the model.
        writes: by site, states before and writes of the training documents, in model units.
        config: words and passes.
        keep: folder in which what was fitted is kept, and gone on with by a run that was interrupted.

    Raises:
        InputError: when there is no site, or a site has fewer than two writes.
    """
    config = config or FitConfig()
    if not writes:
        raise InputError("no writes were given; a code of words needs those of one component at least")
    columns: dict[str, list[Tensor]] = {name: [] for name in ("mean", "edge", "level")}
    sizes: dict[str, tuple[Tensor, Tensor]] = {}
    wide: list[int] = []
    inputs: list[Tensor] = []
    classes: list[int] = []
    bases: dict[str, Tensor] = {}
    shapes: dict[str, Tensor] = {}
    for number, (site,) in enumerate(told([[site] for site in writes], "fitting words to components")):
        before, write = writes[site]
        if len(write) < 2:
            raise InputError(f"{site} has {len(write)} writes; at least 2 are needed, better some hundred")
        found = _kept(None if keep is None else keep / f"{site}.safetensors", tables, site, write, config)
        shapes[site] = found.shape
        for name, value in found.columns.items():
            columns[name].append(value)
        sizes[site] = write.float().norm(dim=1, keepdim=True), before.float().norm(dim=1, keepdim=True)
        if site not in tables.basis:
            shown = _spread(write, config.told_rows)
            inputs.append(teller_inputs(before[shown], write[shown]))
            classes += [len(wide)] * len(inputs[-1])
            wide.append(number)
            bases |= {} if found.basis is None else {site: found.basis}
    stacked = {name: torch.stack(values) for name, values in columns.items()}
    measured = {site: _spread(write, _MEASURED) for site, (write, _) in sizes.items()}
    strength = StrengthReference.measure({site: (write[measured[site]], before[measured[site]])
                                          for site, (write, before) in sizes.items()})  # fmt: skip
    stacked["norm"] = torch.stack([_norms(before, write, strength) for write, before in sizes.values()])
    teller = _teller(inputs, classes, 2 * stacked["mean"].shape[1] + 1)
    choice = torch.tensor([min(config.chosen_from(site), len(tables.text)) for site in writes])
    code = WordCode(tuple(writes), tables.text, **stacked, teller=teller, wide=torch.tensor(wide, dtype=torch.long),
                    shape=shapes, bases=bases, choice=choice, tables=tables.joined(bases))  # fmt: skip
    return code, strength


def _spread(rows: Tensor, count: int) -> slice:
    """About so many rows out of all: the first ones are often of one kind of text."""
    return slice(None, None, -(-len(rows) // count))


@dataclass(frozen=True)
class _Fitted:
    """One component's part of a code."""

    columns: dict[str, Tensor]
    shape: Tensor
    basis: Tensor | None


def _kept(path: Path | None, tables: WordTables, site: str, write: Tensor, config: FitConfig) -> _Fitted:
    """What an earlier run fitted to the same writes with the same settings, or what is fitted now."""
    if path is None:
        return _fit_site(tables, site, write, config)
    words = hashlib.sha256("\0".join(tables.text[: config.chosen_from(site)]).encode()).hexdigest()[:12]
    settings = f"{config}, words {words}, {len(write)} writes of norm {float(write.double().norm()):.9g}"
    if path.is_file():
        state = read_safetensors(path)
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("settings") == settings:
                return _Fitted(shape=state.pop("shape"), basis=state.pop("basis", None), columns=state)
    found = _fit_site(tables, site, write, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    basis = {} if found.basis is None or site in tables.basis else {"basis": found.basis}
    with whole(path) as half:
        save_file({**found.columns, **basis, "shape": found.shape}, half, metadata={"settings": settings})
    return found


def _fit_site(tables: WordTables, site: str, write: Tensor, config: FitConfig) -> _Fitted:
    unit = normalise(write.float())
    mean = unit.mean(0)
    beside = (unit - mean) / unit.shape[1] ** 0.5
    count = config.chosen_from(site)
    if site in tables.basis:
        return _fit_words(tables.directions(site, count), beside, mean, tables.basis[site], config)
    width, basis = min(config.width * config.words, len(mean)), None
    if width < len(mean):
        basis = rounded(torch.linalg.eigh(beside.T @ beside).eigenvectors.flip(1)[:, :width].contiguous())
    table = tables.table[:count]
    direction = whitened(table if basis is None else table @ basis)
    return _fit_words(direction, beside, mean, basis, config)


def _fit_words(direction: Tensor, beside: Tensor, mean: Tensor, basis: Tensor | None, config: FitConfig) -> _Fitted:
    target = beside if basis is None else beside @ basis
    far = target.norm(dim=1)
    edge = far.quantile(torch.arange(1, len(LEVELS)) / len(LEVELS))
    number = torch.bucketize(far, edge)
    level = torch.stack([far[number == i].mean() if bool((number == i).any()) else far.mean()
                         for i in range(len(LEVELS))]).clamp_min(_SMALLEST)  # fmt: skip
    part = _spread(target, config.rows)
    shape = fit_shapes(target[part] / level[number[part]][:, None], direction, config.words, config.passes)
    return _Fitted({"mean": mean, "edge": edge, "level": level}, shape.half().float(), basis)


def _norms(before: Tensor, write: Tensor, strength: StrengthReference) -> Tensor:
    """Geometric mean of the norms at each step of strength; of all of them where a step has none."""
    step, logs = strength.step(write, before), write.float().norm(dim=1).clamp_min(1e-12).log()
    means = [logs[step == i].mean() if bool((step == i).any()) else logs.mean() for i in range(len(STEPS))]
    return torch.stack(means).exp()


def _teller(inputs: list[Tensor], classes: list[int], width: int) -> Tensor:
    """Linear discriminant analysis, which tells classes whose means lie on one line; regression on classes does not."""
    if not inputs:
        return torch.zeros(width, 0)
    owner, count = torch.tensor(classes), max(classes) + 1
    rows = torch.cat(inputs)[:, :-1].double()
    means = torch.stack([rows[owner == one].mean(0) for one in range(count)])
    within = rows - means[owner]
    spread = within.T @ within / len(rows)
    decay = _DECAY * spread.diagonal().mean().clamp_min(_SMALLEST)
    weight = torch.linalg.solve(spread + decay * torch.eye(len(spread)).double(), means.T)
    return torch.cat([weight, -0.5 * (means.T * weight).sum(0, keepdim=True)]).float()
