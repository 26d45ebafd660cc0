"""Labels that say in jointly chosen words what each write has beside its component's usual one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_nla.amounts import check_count
from tl_nla.model.sites import Site
from tl_nla.oracle.capture import LabelledWrites
from tl_nla.oracle.labels import Lens, UsualWrites, Vocabulary, pursue
from tl_nla.oracle.labels.directions import WordDirections, head_basis
from tl_nla.oracle.labels.pursuit import Pursuit


@dataclass(frozen=True)
class PursuitConfig:
    """Which words are chosen, and how many.

    Attributes:
        words: named at most, both signs together.
        allowed: tokens that may be named; all of the vocabulary's when ``None``.
        preference: of each token, see :func:`tl_nla.oracle.labels.directions.frequent_first`; all alike when ``None``.
    """

    words: int = 8
    allowed: Bool[Tensor, " vocab"] | None = None
    preference: Float[Tensor, " vocab"] | None = None

    def __post_init__(self) -> None:
        check_count("words", self.words)


def label_by_pursuit(
    model: Any, captured: LabelledWrites, usual: UsualWrites, vocabulary: Vocabulary,
    config: PursuitConfig | None = None,
) -> LabelledWrites:  # fmt: skip
    """The same writes; their labels name jointly chosen words of what each has beside the usual write.

    Words with a positive weight are ``promoted``, with a negative one ``suppressed``, each in the order of the choice.
    Sources, strength and component stay, so :func:`tl_nla.oracle.texts.label_text` says them and ``parse_label`` reads
    them back. Answers to questions stay as well.

    Args:
        model: the model that was read.
        captured: its writes; see :func:`tl_nla.oracle.capture.capture_writes`.
        usual: mean writes of the training documents.
        vocabulary: texts of the tokens.
        config: which words, and how many.

    Raises:
        InputError: for a site whose usual write was not measured.

    Example:
        >>> usual = UsualWrites.measure(writes_by_site(training))
        >>> held_out = label_by_pursuit(model, held_out, usual, vocabulary, PursuitConfig(words=8))
    """
    config = config or PursuitConfig()
    lens = Lens.of(model)
    labels = list(captured.labels)
    for index, site in enumerate(captured.sites):
        rows = torch.nonzero(captured.site == index).flatten()
        if not len(rows):
            continue
        basis = head_basis(model, site) if Site.parse(site).kind == "head" else None
        words = WordDirections.of(lens, vocabulary, basis, config.allowed, config.preference)
        beside = usual.beside(site, captured.write[rows].to(lens.weight.device))
        found = pursue(words.coordinates(beside), words, config.words)
        for row, (up, down) in zip(rows.tolist(), signed_words(found, words), strict=True):
            labels[row] = replace(labels[row], promoted=up, suppressed=down)
    return replace(captured, labels=labels)


def signed_words(found: Pursuit, words: WordDirections) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each row the words with positive and those with negative weight, in the order of the choice."""

    def side(chosen: Sequence[int], weights: Sequence[float], sign: int) -> tuple[str, ...]:
        return tuple(words.text[i] for i, value in zip(chosen, weights, strict=True) if i >= 0 and value * sign > 0)

    rows = zip(found.word.tolist(), found.weight.tolist(), strict=True)
    return [(side(chosen, weights, 1), side(chosen, weights, -1)) for chosen, weights in rows]


def writes_by_site(captured: LabelledWrites) -> dict[str, Float[Tensor, "n d_model"]]:
    """The writes of each site that has any."""
    return {name: captured.write[captured.site == i] for i, name in enumerate(captured.sites)
            if bool((captured.site == i).any())}  # fmt: skip
