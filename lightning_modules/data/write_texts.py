"""What a verbalizer is taught about writes: explanations, and answers to questions drawn for each."""

import random
from typing import Any

import torch
from torch.utils.data import Dataset

from tl_nla.oracle import LabelledWrites, label_text
from tl_nla.oracle.questions import EXPLAIN, make_answer
from tl_nla.oracle.texts import NOTHING

_SURELY = 0.8
"""Writes shrunk as an example of nothing stay clear of the limit by this factor."""
_SWAPS = {"promotes": "suppresses", "suppresses": "promotes"}


class WriteTexts(Dataset[dict[str, Any]]):
    """Items of every write: its explanation, and answers to questions drawn for it.

    Args:
        writes: with strengths.
        swap_share: share of items whose write has its sign turned, and its promoted and suppressed words swapped.
        seed: of the questions drawn and the signs turned.
        skip_share: how often the ``skip`` question is drawn where it has an answer (labels of skips are dear, so
            captures may hold few). ``None`` draws all questions alike.
        null_share: share of items whose write is shrunk below what counts as something, down to nothing at all. The
            right words are then that it does nothing.
        questions: how many questions are drawn for each write.
        sources_share: how often ``sources`` is drawn where it has an answer; ``None`` draws all questions alike.
    """

    def __init__(
        self, writes: LabelledWrites, swap_share: float = 0.0, seed: int | str = 0, skip_share: float | None = None,
        null_share: float = 0.0, questions: int = 1, sources_share: float | None = None,
    ) -> None:  # fmt: skip
        self.writes, self.swap_share, self.seed, self.skip_share = writes, swap_share, seed, skip_share
        self.null_share, self.each, self.sources_share = null_share, 1 + questions, sources_share

    def __len__(self) -> int:
        return self.each * len(self.writes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, draw = index // self.each, random.Random(f"{self.seed}/{index}")
        asked = bool(index % self.each)
        question = draw.choice(sorted(self.writes.answers[row])) if asked else EXPLAIN
        if asked and self.skip_share and "skip" in self.writes.answers[row] and draw.random() < self.skip_share:
            question = "skip"
        if (
            asked
            and self.sources_share
            and "sources" in self.writes.answers[row]
            and draw.random() < self.sources_share
        ):
            question = "sources"
        if question in (EXPLAIN, *_SWAPS) and draw.random() < self.null_share:
            return self._nothing(row, question, draw)
        # Words of one's own cannot be turned round with the write's sign.
        turns = question in _SWAPS or (question == EXPLAIN and self.writes.texts is None)
        swap = turns and draw.random() < self.swap_share
        text = self._swapped(row, question) if swap else self.writes.text(row, question)
        write = -self.writes.write[row] if swap else self.writes.write[row]
        return {"before": self.writes.before[row], "write": write, "question": question, "text": text}

    def _nothing(self, row: int, question: str, draw: random.Random) -> dict[str, Any]:
        before, write = self.writes.before[row], self.writes.write[row]
        share = draw.choice((0.0, 1e-6, 0.01 * draw.random() * _SURELY))
        shrunk = share * write * (before.norm() / write.norm().clamp_min(1e-12))
        text = NOTHING if question == EXPLAIN else make_answer(question, ()).text
        return {"before": before, "write": shrunk, "question": question, "text": text}

    def _swapped(self, row: int, question: str) -> str:
        if question == EXPLAIN:
            return label_text(self.writes.labels[row].swapped())
        return make_answer(question, self.writes.answers[row][_SWAPS[question]].tokens).text


def collate_writes(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: vectors stacked, questions and texts as lists."""
    batch: dict[str, Any] = {name: torch.stack([item[name] for item in items]) for name in ("before", "write")}
    return {**batch, "questions": [item["question"] for item in items], "texts": [item["text"] for item in items]}
