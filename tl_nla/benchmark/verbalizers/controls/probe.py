"""A linear probe as a word list: ridge regression from the vector to the words around its position."""

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.verbalizers.readers.overlap import Rarity, words_of
from tl_nla.benchmark.verbalizers.readers.ridge import ScaledRidge
from tl_nla.benchmark.verbalizers.rows import Rows
from tl_nla.benchmark.verbalizers.words import Arm
from tl_nla.metrics import normalise

_VOCABULARY, _SEEN = 3000, 3


def probe_arm(acts: Float[Tensor, "n d_model"], texts: Sequence[str], rarity: Rarity) -> Arm:
    """Fit the probe."""
    bags = [set(words_of(text)) for text in texts]
    counts = Counter(word for bag in bags for word in bag)
    known = [word for word, count in counts.most_common(_VOCABULARY) if count >= _SEEN] or list(counts)[:1]
    place = {word: number for number, word in enumerate(known)}
    held = torch.zeros(len(bags), len(known))
    for row, bag in enumerate(bags):
        held[row, [place[word] for word in bag if word in place]] = 1.0
    ridge = ScaledRidge.fit(normalise(acts), held)
    worth = torch.tensor([rarity(word) for word in known])

    def say(rows: Rows, lengths: list[int]) -> list[str]:
        scores = ridge(normalise(rows.acts)) * worth
        order = scores.argsort(1, descending=True).tolist()
        return [" ".join(known[i] for i in best[:many]) for best, many in zip(order, lengths, strict=True)]

    return Arm("probe", say)
