"""A code of words: what words add up to at each component, and which words to choose for a write."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tl_nla.errors import InputError, unknown
from tl_nla.metrics import normalise
from tl_nla.model.files import read_safetensors
from tl_nla.oracle.texts import component_words
from tl_nla.oracle.words.choosing import choose_words, read_words
from tl_nla.oracle.words.tables import WordTables

_BASIS, _SHAPE, _SCALE = "basis/", "shape/", "scale/"
_STEPS = 127
_INSIDE = 0.995
"""Share of a write's square within a head's space from which on it is that head's. One head can make .99 of what an
attention writes; a head's own writes, rounded to bfloat16, have .99999."""


@dataclass(frozen=True)
class WordCode:
    """What was fitted for each component, a row a site.

    A write of norm √d_model is rebuilt as ``mean + level · √d_model · Σ ± shape[place] · direction[word]``.

    Attributes:
        sites: the components' texts.
        text: the words that may be said.
        mean: of the component's training writes, each at norm √d_model.
        edge: distances from the mean, as shares of √d_model, at which one level of deviation ends.
        level: the distance that each level stands for.
        shape: by site, factors of a word's direction by its place in the order, promoted and suppressed ones in turn.
        norm: usual norm of the component's writes, in model units, by step of strength.
        teller: linear map from (state before, write, 1) to scores of the components that write into the whole stream.
        wide: indices of these components.
        bases: by site, the principal directions in which these components are told; all of the stream for others.
        choice: how many of the words each component chooses from: the first ones, which are the most frequent.
        tables: directions of the words, from the model.
    """

    sites: tuple[str, ...]
    text: tuple[str, ...]
    mean: Float[Tensor, "sites d_model"]
    edge: Float[Tensor, "sites edges"]
    level: Float[Tensor, "sites levels"]
    shape: dict[str, Float[Tensor, "places width"]]
    norm: Float[Tensor, "sites steps"]
    teller: Float[Tensor, "inputs wide"]
    wide: Int[Tensor, " wide"]
    bases: dict[str, Float[Tensor, "d_model width"]]
    choice: Int[Tensor, " sites"]
    tables: WordTables = field(repr=False)

    @property
    def d_model(self) -> int:
        """Size of the writes."""
        return self.mean.shape[1]

    @property
    def places(self) -> int:
        """How many words an explanation has at most."""
        return len(self.shape[self.sites[0]])

    def numbers(self) -> dict[str, int]:
        """For the words that name a component (:func:`component_words`) its number."""
        named = {component_words(site): number for number, site in enumerate(self.sites)}
        return {name: number for name, number in named.items() if name is not None}

    def index(self, site: str) -> int:
        """Number of a component.

        Raises:
            InputError: for one that nothing was fitted for.
        """
        if site not in self.sites:
            raise unknown("site of this oracle", site, self.sites)
        return self.sites.index(site)

    def tell_component(
        self, before: Float[Tensor, "n d_model"], write: Float[Tensor, "n d_model"]
    ) -> Int[Tensor, " n"]:
        """Which component each write is from.

        A head's write lies in the space of its out-projection, which says whose it is. Of the components that write
        anywhere a linear classifier of state and write tells.
        """
        unit = normalise(write.float()) / self.d_model**0.5
        best, found = torch.full((len(unit),), _INSIDE), torch.full((len(unit),), -1)
        for number, site in enumerate(self.sites):
            basis = None if site in self.bases else self.tables.basis_of(site)
            if basis is not None:
                share = (unit @ basis).square().sum(1)
                better = share > best
                best = torch.where(better, share, best)
                found = torch.where(better, number, found)
        rest = torch.nonzero(found < 0).flatten()
        if len(rest) and len(self.wide):
            scores = teller_inputs(before[rest], write[rest]) @ self.teller
            found[rest] = self.wide[scores.argmax(1)]
        return found

    def choose(
        self, site: int, write: Float[Tensor, "n d_model"], words: int
    ) -> tuple[Int[Tensor, "n k"], Int[Tensor, " n"]]:
        """Words (:func:`choose_words`) and level of deviation for the writes of one component."""
        target, level = self.targets(site, write)
        scaled = target / self.level[site][level][:, None]
        return choose_words(scaled, self.directions(site), self.shape[self.sites[site]], words), level

    def targets(
        self, site: int, write: Float[Tensor, "n d_model"]
    ) -> tuple[Float[Tensor, "n width"], Int[Tensor, " n"]]:
        """What writes have beside their mean, as a share of √d_model, in the component's own space; its level."""
        beside = (normalise(write.float()) - self.mean[site]) / self.d_model**0.5
        basis = self.tables.basis_of(self.sites[site])
        target = beside if basis is None else beside @ basis
        return target, torch.bucketize(target.norm(dim=1), self.edge[site])

    def directions(self, site: int) -> Float[Tensor, "words width"]:
        """Directions of the words that a component chooses from."""
        return self.tables.directions(self.sites[site], int(self.choice[site]))

    def rebuild(self, site: int, word: Int[Tensor, "n k"], level: Int[Tensor, " n"]) -> Float[Tensor, "n d_model"]:
        """Directions of writes from their words: near norm √d_model, not scaled to it.

        Words that the component does not choose from tell nothing.
        """
        own = torch.where(word < self.choice[site], word, -1)
        told = read_words(own, self.directions(site), self.shape[self.sites[site]])
        told = told * self.level[site][level][:, None] * self.d_model**0.5
        basis = self.tables.basis_of(self.sites[site])
        return self.mean[site] + (told if basis is None else told @ basis.T)

    def with_tables(self, tables: WordTables) -> "WordCode":
        """The same code with the tables of its model."""
        return replace(self, tables=tables.joined(self.bases))

    def save(self, path: str | Path) -> None:
        """Write everything but the tables, which are the model's."""
        halves = {name: getattr(self, name).half() for name in ("mean", "teller")}
        whole = {name: getattr(self, name).float() for name in ("edge", "level", "norm")}
        counts = {"wide": self.wide, "choice": self.choice}
        tensors = {name: value.contiguous() for name, value in {**halves, **whole, **counts}.items()}
        tensors["token"] = self.tables.token
        tensors |= {f"{_SHAPE}{site}": shape.half().contiguous() for site, shape in self.shape.items()}
        for site, basis in self.bases.items():
            scale = basis.abs().amax(0) / _STEPS
            tensors[f"{_BASIS}{site}"] = (basis / scale).round().to(torch.int8).contiguous()
            tensors[f"{_SCALE}{site}"] = scale.float()
        save_file(tensors, path, metadata={"sites": json.dumps(self.sites), "text": json.dumps(self.text)})

    @classmethod
    def load(cls, path: str | Path) -> "WordCode":
        """Read what :meth:`save` wrote; nothing can be said or read before :meth:`with_tables`.

        In files of tl-nla 0.2 and earlier all components choose from all words.

        Args:
            path: of the file.

        Raises:
            InputError: when the file is missing or damaged.
        """
        tensors = read_safetensors(path)
        try:
            with safe_open(path, "pt") as file:
                sites, text = (tuple(json.loads(file.metadata()[name])) for name in ("sites", "text"))
            token, wide = tensors.pop("token"), tensors.pop("wide")
            choice = tensors.pop("choice", torch.full((len(sites),), len(text)))
            shape, whole, scale = ({name.removeprefix(kind): tensors.pop(name).float() for name in sorted(tensors)
                                    if name.startswith(kind)} for kind in (_SHAPE, _BASIS, _SCALE))  # fmt: skip
            bases = {site: basis * scale[site] for site, basis in whole.items()}
            parts = {name: value.float() for name, value in tensors.items()}
            empty = WordTables(token, text, torch.zeros(len(text), parts["mean"].shape[1]), {})
            return cls(sites, text, **parts, shape=shape, wide=wide, bases=bases, choice=choice, tables=empty)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no code of words: {' '.join(str(error).split())[:200]}") from error


def rounded(basis: Float[Tensor, "d_model width"]) -> Float[Tensor, "d_model width"]:
    """A basis as it is kept: each column in 255 steps, which changes a write told in it by a hundredth of a percent."""
    scale = basis.abs().amax(0) / _STEPS
    return (basis / scale).round() * scale


def teller_inputs(before: Float[Tensor, "n d_model"], write: Float[Tensor, "n d_model"]) -> Float[Tensor, "n inputs"]:
    """What the classifier of components sees: directions of state and write, and a one."""
    parts = [normalise(before.float()), normalise(write.float()), torch.ones(len(write), 1)]
    return torch.cat(parts, 1)
