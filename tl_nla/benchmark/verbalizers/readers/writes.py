"""Readers that turn plain words back into writes; none of them has seen an oracle's words.

All know which component wrote, for every arm alike, so that naming it gains nothing: the zero is its mean write.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.directions import PLACES, Directions, WordSum, by_site, plain_lists
from tl_nla.benchmark.verbalizers.readers.likelihood import LikelihoodReader
from tl_nla.benchmark.verbalizers.readers.ridge import ScaledRidge
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.writes import WriteSubject
from tl_nla.metrics import normalise
from tl_nla.oracle.labels import Vocabulary

ReadWrite = Callable[[Sequence[str], Sequence[str]], Tensor]
"""Texts, and the component that each is read for, to directions beside the component's mean."""
_QUOTED, _LISTED = (8, 16, 32, 64), (2, 4, 8, 16, PLACES)
_LARGEST_SCALE, _DEPTH = 5.0, 4


class PlainWriteReaders:
    """Readers of words about writes, of which every arm gets the one that suits it.

    Three read lists as sums of word directions. Two of them weigh places as the read-out's own lists taught them: of
    whole writes, and of writes beside their component's mean. For the third all words count alike. The fourth learnt
    from quotes of the text, for each component by itself.
    """

    def __init__(self, subject: WriteSubject, reader: LikelihoodReader) -> None:
        train, self.width = subject.train.rows, subject.train.rows.acts.shape[1]
        self.mean = {site: self._unit(train.acts[_of(train, site)]).mean(0) for site in dict.fromkeys(train.sites)}
        directions, rng = Directions(subject.target, list(self.mean)), random.Random(f"{subject.seed}/lists")
        allowed = Vocabulary.of(subject.target.tokenizer, directions.lens.weight.shape[1]).allowed
        usable, wanted = torch.nonzero(allowed.cpu()).flatten(), self.beside(train)
        many = [rng.choice(_LISTED) for _ in range(len(train))]
        self.readers: dict[str, ReadWrite] = {
            name: WordSum.fit(directions, plain_lists(directions, vectors, many, usable), train.sites, wanted)
            for name, vectors in (("whole", self._unit(train.acts)), ("beside", wanted))
        }
        self.readers["even"] = WordSum(directions, torch.ones(2 * PLACES))
        self.readers["quotes"] = _quotes(subject, reader, train, wanted, rng)

    def beside(self, rows: Rows) -> Float[Tensor, "n d_model"]:
        """Directions of writes beside the mean direction of their component."""
        return self._unit(rows.acts) - self.means(rows.sites)

    def means(self, sites: Sequence[str]) -> Float[Tensor, "n d_model"]:
        """The mean direction of each component."""
        return torch.stack([self.mean[site] for site in sites])

    def choose(self, texts: Sequence[str], rows: Rows) -> ReadWrite:
        """The reader that reads an arm's words best on calibration rows, and how far it is to be trusted.

        That is one choice of four and one number, so that they can hold no code.
        """
        wanted, best = self.beside(rows), (float("inf"), self.readers["whole"], 0.0)
        for read in self.readers.values():
            told = read(texts, rows.sites)
            scale = float((told * wanted).sum() / told.square().sum().clamp(min=1e-9))
            scale = min(max(scale, 0.0), _LARGEST_SCALE)
            best = min(best, (float((scale * told - wanted).square().sum()), read, scale), key=lambda one: one[0])
        _, chosen, trust = best
        return lambda said, sites: trust * chosen(said, sites)

    def errors(self, read: ReadWrite, texts: Sequence[str], rows: Rows) -> Float[Tensor, " n"]:
        """Squared error of each reading as a share of the variance beside the components' means."""
        wanted = self.beside(rows)
        missed = (read(texts, rows.sites) - wanted).square().sum(1).double()
        return missed / wanted.square().sum(1).double().mean()

    def _unit(self, acts: Tensor) -> Tensor:
        return normalise(acts.float()) / self.width**0.5


def _of(rows: Rows, site: str) -> Tensor:
    return torch.tensor([one == site for one in rows.sites])


def _quotes(subject: WriteSubject, reader: LikelihoodReader, train: Rows, wanted: Tensor, rng: Any) -> ReadWrite:
    """For each component a regression from the base model's states about a quote to what the component wrote."""
    layer = int(subject.target.model.cfg.n_layers) // _DEPTH
    tokenizer, budgets = subject.target.tokenizer, dict[tuple[int, ...], int]()
    quotes = [
        str(tokenizer.decode(past[-budgets.setdefault(tuple(past), rng.choice(_QUOTED)) :], skip_special_tokens=True))
        for past in train.past
    ]
    features = reader.features(quotes, layer)
    fitted = {site: ScaledRidge.fit(features[_of(train, site)], wanted[_of(train, site)])
              for site in dict.fromkeys(train.sites)}  # fmt: skip

    def read(texts: Sequence[str], sites: Sequence[str]) -> Tensor:
        features, found = reader.features(texts, layer), torch.zeros(len(texts), wanted.shape[1])
        for rows in by_site(sites):
            found[rows] = fitted[sites[int(rows[0])]](features[rows])
        return found

    return read
