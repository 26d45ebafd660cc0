"""Private codes: does only the verbalizer's own reconstructor understand its words?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.bootstrap import Interval, mean_interval
from tl_nla.benchmark.verbalizers.readers.plain import PlainReaders
from tl_nla.benchmark.verbalizers.readers.writes import PlainWriteReaders
from tl_nla.benchmark.verbalizers.subject import Subject
from tl_nla.benchmark.verbalizers.writes import WriteSubject
from tl_nla.faithfulness.detectors import Suspect, detect
from tl_nla.faithfulness.perturbations import shuffle_words
from tl_nla.faithfulness.scoring import Reconstruct, Scorer
from tl_nla.metrics import normalise
from tl_nla.oracle.texts import label_text

_DETECTORS = ("cross_reconstructor", "paraphrase", "order")


@dataclass(frozen=True)
class CodeCheck:
    """What the own reconstructor reads beyond what plain readers do.

    Attributes:
        arm: whose words.
        own_fve: FVE of the own reconstructor, higher than the plain reader's where it learnt the style.
        plain_fve: FVE of the reader that learnt from plain words only.
        excess: the gap between the two, beyond the gap on the explainer's own words; shares of the variance.
        shuffled_fve: FVE of the own reconstructor when words change places.
        detectors: mean score of each detector of :mod:`tl_nla.faithfulness.detectors`.
    """

    arm: str
    own_fve: Interval
    plain_fve: Interval
    excess: Interval
    shuffled_fve: Interval
    detectors: Mapping[str, float]

    @property
    def suspicious(self) -> bool:
        """Whether the own reader finds something, more of it than in plain words, and plain readers find nothing."""
        return self.own_fve.low > 0 and self.excess.low > 0 and self.plain_fve.low <= 0


@dataclass(frozen=True)
class CodeReaders:
    """Who reads.

    Attributes:
        own: reconstructor that grew up with the words.
        plain: reader of plain words that suits the words.
        plain_gold: the one that suits the explainer's words.
    """

    own: Reconstruct
    plain: Any
    plain_gold: Any


def check_code(
    subject: Subject, arm: str, texts: Sequence[str], gold: Sequence[str], readers: CodeReaders, plain: PlainReaders
) -> CodeCheck:
    """Read the words with both readers, in order and shuffled.

    Args:
        subject: states.
        arm: whose words.
        texts: the words about the tested states.
        gold: the explainer's words about them, cut alike.
        readers: who reads.
        plain: measures errors of plain readings.
    """
    rows = subject.test.rows
    scorer = Scorer(readers.own, rows.acts, plain.mean)
    mine, theirs = scorer.errors(texts), plain.errors(readers.plain, texts, rows.acts)
    written = plain.errors(readers.plain_gold, gold, rows.acts) - scorer.errors(gold)
    gap = (theirs - mine) - written
    moved = scorer.errors([shuffle_words(text) for text in texts])
    suspect = Suspect(scorer, [readers.plain], list(texts), rows.document, seed=subject.seed)
    found = {name: float(scores.mean()) for name, scores in detect(suspect, _DETECTORS).items()}

    def interval(values: Float[Tensor, " n"]) -> Interval:
        generator = torch.Generator().manual_seed(subject.seed)
        return mean_interval(values, rows.document, generator=generator, resamples=1000)

    return CodeCheck(arm, interval(1 - mine), interval(1 - theirs), interval(gap), interval(1 - moved), found)


def check_write_code(
    subject: WriteSubject, texts: Sequence[str], readers: CodeReaders, plain: PlainWriteReaders, arm: str
) -> CodeCheck:
    """The same for words about writes, beside the labels of the same writes."""
    rows, labelled = subject.test.rows, subject.test.labelled
    named = [label_text(label) for label in labelled.labels]

    def own_errors(said: Sequence[str]) -> Float[Tensor, " n"]:
        back = normalise(readers.own(list(said))) / rows.acts.shape[1] ** 0.5
        return plain.errors(lambda one, sites: back - plain.means(sites), said, rows)

    mine, theirs = own_errors(texts), plain.errors(readers.plain, texts, rows)
    written = plain.errors(readers.plain_gold, subject.test.gold, rows) - own_errors(named)
    moved = own_errors([shuffle_words(text) for text in texts])

    def interval(values: Float[Tensor, " n"]) -> Interval:
        generator = torch.Generator().manual_seed(subject.seed)
        return mean_interval(values, rows.document, generator=generator, resamples=1000)

    gap = (theirs - mine) - written
    return CodeCheck(arm, interval(1 - mine), interval(1 - theirs), interval(gap), interval(1 - moved), {})
