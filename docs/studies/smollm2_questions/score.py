"""Which answers are right: those of a reader, of another write, and of controls that are no language model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2_questions.capture import KINDS, Writes
from docs.studies.smollm2_questions.reader import DECAY, Reader, sized, usual_size
from tl_nla.metrics.ridge import fit_ridge

CHOICE = 10
_UNLIKELY = -1e9


@dataclass(frozen=True)
class Asked:
    """Held-out writes with right answers and wrong ones beside them.

    Attributes:
        writes: rows.
        vector: them, in units of their head's usual size.
        goal: token of the right answer by question, -1 where there is none.
        choices: by question, the right token first and nine wrong ones, which are right for other writes.
        words: tokens that an answer may be, by question.
        other: a row of the same head and another document, for each row.
    """

    writes: Writes
    vector: Tensor
    goal: Mapping[str, Tensor]
    choices: Mapping[str, Tensor]
    words: Mapping[str, Tensor]
    other: Tensor

    @classmethod
    def of(cls, writes: Writes, vector: Tensor, goal: Mapping[str, Tensor], words: Tensor, level: Tensor) -> "Asked":
        """Draw wrong answers: answers about other writes of the same head where there are enough, else of all heads."""
        draws = torch.Generator().manual_seed(0)
        choices, allowed = {}, dict.fromkeys(KINDS[:3], words)
        for kind in KINDS[:3]:
            rows = []
            for row, right in enumerate(goal[kind].tolist()):
                own = goal[kind][writes.head == writes.head[row]]
                wrong = [one for one in dict.fromkeys(_mixed(own, draws) + _mixed(goal[kind], draws))
                         if one not in (right, -1)]  # fmt: skip
                rows.append([right, *wrong[: CHOICE - 1]])
            choices[kind] = torch.tensor(rows)
        levels = torch.zeros_like(words)
        levels[level] = True
        other = []
        for row in range(len(writes)):
            same = (writes.head == writes.head[row]) & (writes.document != writes.document[row])
            rows_of = torch.nonzero(same).flatten()
            other.append(int(rows_of[torch.randint(len(rows_of), (), generator=draws)]))
        return cls(writes, vector, goal, choices, {**allowed, "skip": levels}, torch.tensor(other))


def _mixed(values: Tensor, draws: torch.Generator) -> list[int]:
    return [int(one) for one in values[torch.randperm(len(values), generator=draws)]]


def judged(asked: Asked, logits: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A row a write, by question: whether the answer is right, whether the right one wins against nine wrong ones.

    ``is`` names the truths of other questions that the answer gives instead.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(len(asked.writes))]
    for kind, scores in logits.items():
        said = scores.masked_fill(~asked.words[kind], _UNLIKELY).argmax(1)
        wins = None
        if kind in asked.choices:
            wins = scores.gather(1, asked.choices[kind].clamp_min(0)).argmax(1) == 0
        for row, token in enumerate(said.tolist()):
            right = int(asked.goal[kind][row])
            if right >= 0:
                rows[row][kind] = {"right": int(token == right)} | ({} if wins is None else {"wins": int(wins[row])})
                rows[row][kind]["is"] = [one for one in KINDS[:3] if int(asked.goal[one][row]) == token]
    return rows


@torch.no_grad()
def reader_rows(asked: Asked, reader: Reader) -> dict[str, list[dict[str, Any]]]:
    """Answers and free explanations of a reader, and the same about another write of the same head."""
    logits = {kind: reader.logits(kind, asked.vector) for kind in KINDS}
    free, found = reader.free(asked.vector), {}
    for name, place in (("own", torch.arange(len(asked.writes))), ("another write", asked.other)):
        found[name] = judged(asked, {kind: scores[place] for kind, scores in logits.items()})
        for row, at in enumerate(place.tolist()):
            found[name][row]["free"] = named(free[at], asked, row, reader.verbalizer.tokenizer)
    for row, text in enumerate(free):
        found["own"][row]["said"] = text
    return found


def named(text: str, asked: Asked, row: int, tokenizer: Any) -> dict[str, int]:
    """Which truths a free explanation names as a word."""
    said = {word.strip(".,;:!?\"'()") for word in text.split()}
    right = {kind: int(asked.goal[kind][row]) for kind in KINDS[:3]}
    return {kind: int(tokenizer.decode([token]).strip() in said) for kind, token in right.items() if token >= 0}


def control_rows(
    asked: Asked, train: Writes, goal: Mapping[str, Tensor], table: Tensor, level: Tensor, borders: Tensor
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Answers of controls: what is usual for the head, the text alone, and ridge regression of each head.

    Args:
        asked: held-out writes.
        train: training writes.
        goal: their answers.
        table: embeddings of all tokens.
        level: tokens of the answers about effects.
        borders: of the effects, in nats.
    """
    usual: dict[str, Tensor] = {}
    linear: dict[str, Tensor] = {}
    vector = sized(train, usual_size(train))
    for kind in KINDS:
        usual[kind] = torch.zeros(len(asked.writes), len(table))
        linear[kind] = torch.zeros(len(asked.writes), len(table))
        for head in range(len(train.heads)):
            here, own = asked.writes.head == head, (train.head == head) & (goal[kind] >= 0)
            usual[kind][here] = torch.bincount(goal[kind][own], minlength=len(table)).float()
            linear[kind][here] = (_effect(asked, here, train, vector, own, (level, borders), len(table))
                                  if kind == "skip" else
                                  _nearest(vector[own], goal[kind][own], asked.vector[here], table))  # fmt: skip
    text = {"attended": torch.zeros_like(usual["attended"]), "promoted": torch.zeros_like(usual["attended"])}
    text["attended"].scatter_(1, asked.writes.last[:, None], 1.0)
    text["promoted"].scatter_(1, asked.writes.guess[:, None], 1.0)
    return {"usual": judged(asked, usual), "linear": judged(asked, linear), "text": judged(asked, text)}


def _nearest(vector: Tensor, answer: Tensor, asked: Tensor, table: Tensor) -> Tensor:
    """Cosine of a regression's guess with every embedding."""
    guess = fit_ridge(vector, table[answer], DECAY).predict(asked).float()
    return torch.nn.functional.normalize(guess, dim=1) @ torch.nn.functional.normalize(table, dim=1).T


def _effect(
    asked: Asked, here: Tensor, train: Writes, vector: Tensor, own: Tensor, answers: Sequence[Tensor], size: int
) -> Tensor:  # fmt: skip
    """A regression from the write and its size to the log effect, as scores of the three levels."""
    sides = [torch.cat([rows, rows.norm(dim=1, keepdim=True)], 1) for rows in (vector[own], asked.vector[here])]
    goal = train.effect[own].clamp_min(1e-7).log()[:, None]
    guess = fit_ridge(sides[0], goal, DECAY).predict(sides[1]).float()[:, 0]
    scores = torch.zeros(len(guess), size)
    scores[torch.arange(len(guess)), answers[0][torch.bucketize(guess, answers[1].log())]] = 1.0
    return scores
