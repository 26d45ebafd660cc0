"""Several ways to put a write of SmolLM2 into words of the oracle's own vocabulary, as signed lists."""

from dataclasses import dataclass

import torch
from torch import Tensor

from docs.studies.smollm2.effects import Effects
from docs.studies.smollm2.lens import Lenses
from docs.studies.smollm2.writes import SiteWrites
from tl_nla.metrics import normalise
from tl_nla.oracle.words import WordCode
from tl_nla.oracle.words.choosing import signs

SHORT, PLAIN = 8, "strongest"
VARIANTS = ("right", "shuffled", "permuted", "nearest")
PERMUTATIONS = 3


@dataclass(frozen=True)
class Said:
    """Words of writes, a row each.

    Attributes:
        word: their places in the vocabulary, -1 where there is none.
        weight: 1 for the first promoted word and -1 for the first suppressed one; later words of a list count less.
    """

    word: Tensor
    weight: Tensor

    @classmethod
    def of(cls, word: Tensor, sign: Tensor) -> "Said":
        """From words whose lists stand in order."""
        rank = torch.where(sign > 0, (sign > 0).cumsum(-1), (sign < 0).cumsum(-1))
        return cls(word, sign / rank.clamp_min(1).sqrt() * (word >= 0))

    def renamed(self, names: Tensor) -> "Said":
        """Each word replaced by another one."""
        return Said(torch.where(self.word >= 0, names[self.word.clamp_min(0)], -1), self.weight)

    def moved(self, by: int) -> "Said":
        """The words of other rows."""
        return Said(self.word.roll(by, 0), self.weight.roll(by, 0))


def by_oracle(code: WordCode, writes: SiteWrites, site: str, words: int) -> Said:
    """The shipped oracle's words."""
    word, _ = code.choose(code.index(site), writes[site][1], words)
    return Said.of(word, signs(words).expand_as(word))


def strongest(values: Tensor, words: int) -> Said:
    """The words with the largest and with the smallest values, half of each."""
    up, down = values.topk(words // 2).indices, (-values).topk(words // 2).indices
    return Said.of(torch.cat([up, down], 1), torch.ones_like(up[:1, :1]) * _halves(words))


def _halves(words: int) -> Tensor:
    return torch.cat([torch.ones(words // 2), -torch.ones(words - words // 2)])


@dataclass(frozen=True)
class Carried:
    """What takes a write to the last layer.

    Attributes:
        lenses: means over training documents.
        own: every write as the Jacobian of its own text and position carries it: ``[rows, components, d_model]``.
    """

    lenses: Lenses
    own: Tensor


def beside(code: WordCode, writes: SiteWrites, site: str) -> Tensor:
    """Writes at norm √d_model without their component's mean."""
    return normalise(writes[site][1]) - code.mean[code.index(site)]


def labels_of(
    code: WordCode, writes: SiteWrites, effects: Effects, site: str, number: int, carried: Carried
) -> dict[str, Said | None]:
    """All labels of one component's writes.

    Args:
        code: of the oracle.
        writes: of all sites.
        effects: what each write changes.
        site: the component.
        number: its place in the effects.
        carried: lenses, and what they make of writes.
    """
    write, layer, lenses = beside(code, writes, site), int(site.split(".")[1]), carried.lenses
    here = lenses.post if site.endswith(".mlp") else lenses.mid
    found: dict[str, Said | None] = {}
    for words in (SHORT, 2 * SHORT):
        found[f"oracle, {words} words"] = by_oracle(code, writes, site, words)
    last = {PLAIN: write, "Jacobian lens": write @ lenses.later[layer].T, "Jacobian here": write @ here[layer].T,
            "own Jacobian": carried.own[:, number]}  # fmt: skip
    found |= {name: strongest(change @ code.tables.table.T, SHORT) for name, change in last.items()}
    return found | {"skip": strongest(effects.added[:, number].float(), SHORT)}


def variants(said: Said, neighbours: Tensor) -> list[tuple[str, Said]]:
    """The words as they are and as controls, see ``VARIANTS``; ``permuted`` comes several times."""
    found = [("right", said), ("shuffled", said.moved(len(said.word) // 2)), ("nearest", said.renamed(neighbours))]
    for seed in range(PERMUTATIONS):
        order = torch.randperm(len(neighbours), generator=torch.Generator().manual_seed(seed))
        found.append(("permuted", said.renamed(order)))
    return found


def nearest(vectors: Tensor) -> Tensor:
    """For each word the one whose vector is nearest."""
    alike = vectors @ vectors.T
    alike.fill_diagonal_(-torch.inf)
    return alike.argmax(1)
