"""The two sides of a code of words: one says the words of writes, the other reads writes back from them."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.metrics.norms import scale_to_norm
from tl_nla.nla.inputs import check_acts, check_texts
from tl_nla.oracle.labels import STEPS, StrengthReference
from tl_nla.oracle.questions import EXPLAIN, LEVELS, check_question
from tl_nla.oracle.texts import Label, component_words, label_text, list_words, parse_label
from tl_nla.oracle.verbalizer import AnswerSettings
from tl_nla.oracle.words.code import WordCode
from tl_nla.oracle.words.fitting import LEVELS as DEVIATIONS

_DEVIATION = "deviation"
_USUAL = 2
"""Level of deviation of a text that tells none."""


class WordVerbalizer(nn.Module):
    """Says the words of writes."""

    def __init__(self, code: WordCode, strength: StrengthReference) -> None:
        super().__init__()
        self.code, self.strength, self.d_act = code, strength, code.d_model

    def generate(
        self, before: Float[Tensor, "states d_act"], write: Float[Tensor, "n d_act"], question: str = EXPLAIN,
        words: int | None = None, sites: Sequence[str | None] | None = None, **settings: Any,
    ) -> list[str]:  # fmt: skip
        """Explanations, or answers to one question.

        Args:
            before: states that the writes are added to, finite.
            write: the writes.
            question: ``"explain"``, ``"promotes"``, ``"suppresses"`` or ``"alignment"``.
            words: in an explanation at most; as many as were fitted when ``None``.
            sites: which component each write is from; told from the vectors where it is ``None``.
            settings: those of :class:`tl_nla.oracle.verbalizer.AnswerSettings`. Words are chosen, not sampled, so none
                of them changes anything.

        Raises:
            InputError: for vectors that cannot be read, an unknown site or setting, or a question that words of a
                write do not answer.
        """
        AnswerSettings.of(settings)
        check_question(question, explain=True)
        check_acts(write, self.d_act, "writes")
        check_acts(before, self.d_act, "states before")
        if len(before) != len(write):
            raise InputError(f"{len(write)} writes and {len(before)} states before were given; one a write is needed")
        before, write = before.detach().float().cpu(), write.detach().float().cpu()
        if question in LEVELS:
            return [list_words(words) for words in LEVELS[question].told(write, before)]
        if question not in (EXPLAIN, "promotes", "suppresses"):
            raise InputError(
                f"an oracle of words cannot answer {question!r}; ask 'promotes' or 'suppresses', or train one with "
                "`tl-nla fit-oracle --method trained`"
            )
        labels = self.labels(before, write, words, sites)
        if question == EXPLAIN:
            return [f"{label_text(label)}; {_DEVIATION} {DEVIATIONS[level]}" for label, level in labels]
        return [
            list_words((label.promoted if question == "promotes" else label.suppressed) or ()) for label, _ in labels
        ]

    def labels(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], words: int | None = None,
        sites: Sequence[str | None] | None = None,
    ) -> list[tuple[Label, int]]:  # fmt: skip
        """The label of each write and its level of deviation (:meth:`generate`)."""
        code = self.code
        if words is not None and not 1 <= words <= code.places:
            raise InputError(f"words is {words}; this oracle says 1 to {code.places}")
        if sites is not None and len(sites) != len(write):
            raise InputError(f"{len(sites)} sites were given for {len(write)} writes; one a write is needed")
        known = [None if site is None else code.index(site) for site in sites or [None] * len(write)]
        found_out = code.tell_component(before, write).tolist() if None in known else known
        number = torch.tensor([told if own is None else own for own, told in zip(known, found_out, strict=True)])
        steps = self.strength.step(write, before).tolist()
        found: dict[int, tuple[Label, int]] = {}
        for site in number.unique().tolist():
            rows = torch.nonzero(number == site).flatten()
            if site < 0:
                nothing = [(Label((), (), None, steps[row]), _USUAL) for row in rows.tolist()]
                found |= dict(zip(rows.tolist(), nothing, strict=True))
                continue
            word, level = code.choose(site, write[rows], words or code.places)
            name = component_words(code.sites[site])
            for row, (up, down), far in zip(rows.tolist(), _texts(word, code.text), level.tolist(), strict=True):
                found[row] = Label(up, down, None, steps[row], name), far
        return [found[row] for row in range(len(write))]


class WordReconstructor(nn.Module):
    """Reads writes back from their words."""

    backbone = None
    """No language model reads the texts, so none is too long."""

    def __init__(self, code: WordCode, strength: StrengthReference) -> None:
        super().__init__()
        self.code, self.strength, self.d_act = code, strength, code.d_model
        self._numbers, self._rows = code.numbers(), {word: row for row, word in enumerate(code.text)}

    @torch.no_grad()
    def reconstruct(
        self, texts: Sequence[str], batch_size: int = 256, refined: bool = True
    ) -> Float[Tensor, "n d_act"]:
        """Writes read back from explanations, in model units.

        Args:
            texts: explanations. Words that are not in the code, and parts that are no words, tell nothing. A text
                without a component that the code knows gives zero.
            batch_size: for other reconstructors; texts are read one component at a time here.
            refined: likewise.

        Raises:
            InputError: for an empty list.
        """
        labels = [parse_label(text) for text in check_texts(texts, "texts")]
        found = torch.zeros(len(labels), self.d_act)
        number = torch.tensor([self._numbers.get(label.component or "", -1) for label in labels])
        for site in number[number >= 0].unique().tolist():
            rows = torch.nonzero(number == site).flatten()
            own = [labels[row] for row in rows.tolist()]
            direction = self.code.rebuild(site, self._words(own), torch.tensor([_level(label) for label in own]))
            size = torch.stack([self._norm(site, label) for label in own])
            found[rows] = scale_to_norm(direction, 1.0) * size[:, None]
        return found

    def _norm(self, site: int, label: Label) -> Tensor:
        middle = len(STEPS) // 2 if label.strength is None else label.strength
        return self.code.norm[site, middle]

    def _words(self, labels: Sequence[Label]) -> Int[Tensor, "n places"]:
        """Words of both lists in turn, -1 where there is none that the code knows."""
        word = torch.full((len(labels), self.code.places), -1)
        for row, label in enumerate(labels):
            for side, words in enumerate((label.promoted or (), label.suppressed or ())):
                for place, text in zip(range(side, self.code.places, 2), words, strict=False):
                    word[row, place] = self._rows.get(text, -1)
        return word


def _level(label: Label) -> int:
    for part in label.rest:
        name, _, word = part.partition(" ")
        if name == _DEVIATION and word.strip() in DEVIATIONS:
            return DEVIATIONS.index(word.strip())
    return _USUAL


def _texts(word: Int[Tensor, "n k"], text: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each row the promoted and the suppressed words, in order."""
    sides = [[tuple(text[i] for i in row if i >= 0) for row in word[:, side::2].tolist()] for side in (0, 1)]
    return list(zip(*sides, strict=True))
