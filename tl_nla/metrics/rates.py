"""Rates by class: claim precision and recall by claim type, accuracy by question, and the like."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torchmetrics import Metric

from tl_nla.errors import InputError, unknown


class ClasswiseRate(Metric):
    """Share of correct items in each class.

    Claim precision: one item a claim made, its class the claim's type, correct when the text makes it true.
    Claim recall: one item a fact of the text, its class the fact's type, correct when the explanation states it.

    Args:
        classes: names of the classes, such as claim types.
        prefix: put before each name in the result, such as ``"claim_precision/"``.
        kwargs: passed on to ``torchmetrics.Metric``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    correct: Tensor
    count: Tensor

    def __init__(self, classes: Sequence[str], prefix: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not classes or len(set(classes)) != len(classes):
            raise InputError(f"classes must be distinct names, at least one; got {list(classes)}")
        self.classes = tuple(classes)
        self.prefix = prefix
        self.add_state("correct", torch.zeros(len(classes), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(len(classes), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, names: Sequence[str] | Int[Tensor, " n"], correct: Sequence[bool] | Bool[Tensor, " n"]) -> None:
        """Add items.

        Args:
            names: the class of each item, by name or by index.
            correct: whether each item is correct.

        Raises:
            InputError: for an unknown class, or when there are not as many classes as items.
        """
        if len(names) != len(correct):
            raise InputError(f"got {len(names)} classes for {len(correct)} items: give one each")
        index = names if isinstance(names, Tensor) else torch.tensor([self._index(n) for n in names], dtype=torch.long)
        index = index.to(self.count.device)
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < len(self.classes):
            raise InputError(f"class indices must be in 0..{len(self.classes) - 1}, got {int(index.max())}")
        right = torch.as_tensor(correct, dtype=torch.long, device=index.device)
        self.correct = self.correct.index_add(0, index, right)
        self.count = self.count.index_add(0, index, torch.ones_like(right))

    def compute(self) -> dict[str, Tensor]:
        """Return the rate of each class that occurred, by ``prefix + name``."""
        rates = self.correct.double() / self.count.double()
        seen = [i for i, count in enumerate(self.count.tolist()) if count]
        return {self.prefix + self.classes[i]: rates[i] for i in seen}

    def overall(self) -> Tensor:
        """Return the rate over all items of all classes; NaN when there are none."""
        return self.correct.sum().double() / self.count.sum().double()

    def _index(self, name: str) -> int:
        if name not in self.classes:
            raise unknown("class", name, self.classes)
        return self.classes.index(name)
