"""Words of the same verbalizer about other vectors: the mean, another text's, noise."""

import torch

from tl_nla.benchmark.arms import shuffle_across_documents
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.words import Arm, Words


def vector_arms(words: Words, train: Rows, seed: int) -> list[Arm]:
    """``mean``, ``shuffled`` and ``random_vector``."""
    own = words.own

    def mean(rows: Rows, lengths: list[int]) -> list[str]:
        few = _means(rows, train)
        distinct, place = torch.unique(few.acts, dim=0, return_inverse=True)
        first = torch.tensor([int((place == number).nonzero()[0]) for number in range(len(distinct))])
        said = list(own.say(few.select(f"{rows.name}-mean", first), [words.budget] * len(first)))
        return [said[number] for number in place.tolist()]

    def shuffled(rows: Rows, lengths: list[int]) -> list[str]:
        said = words(own, rows)
        return [said[other] for other in shuffle_across_documents(rows.document, seed).tolist()]

    def random_vector(rows: Rows, lengths: list[int]) -> list[str]:
        noise = torch.randn(rows.acts.shape, generator=torch.Generator().manual_seed(seed))
        scaled = noise * (rows.acts.norm(dim=1) / noise.norm(dim=1))[:, None]
        return list(own.say(rows.with_acts(f"{rows.name}-random", scaled), [words.budget] * len(rows)))

    return [
        Arm("mean", mean, sees="nothing", equal=False),
        Arm("shuffled", shuffled, sees="nothing", equal=False),
        Arm("random_vector", random_vector, sees="nothing", equal=False),
    ]


def _means(rows: Rows, train: Rows) -> Rows:
    """The same rows with the mean vector, or with the mean write and state of each row's site."""
    if rows.before is None or train.before is None:
        return rows.with_acts(f"{rows.name}-mean", train.acts.mean(0).expand_as(rows.acts).contiguous())
    acts, before = torch.empty_like(rows.acts), torch.empty_like(rows.before)
    for site in set(rows.sites):
        here = torch.tensor([one == site for one in rows.sites])
        there = torch.tensor([one == site for one in train.sites])
        there = there if there.any() else torch.ones_like(there)
        acts[here], before[here] = train.acts[there].mean(0), train.before[there].mean(0)
    return Rows(f"{rows.name}-mean", acts, rows.past, rows.document, before, rows.sites)
