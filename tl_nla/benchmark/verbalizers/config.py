"""What a benchmark run is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tl_nla.amounts import check_counts
from tl_nla.benchmark.verbalizers.subject import Sizes
from tl_nla.benchmark.verbalizers.tasks.planted import PlantedFact
from tl_nla.errors import unknown
from tl_nla.explainers import Explainer
from tl_nla.faithfulness.grammar import ClaimGrammar

READERS = ("overlap", "likelihood", "both")


@dataclass(frozen=True)
class BenchmarkConfig:
    """How a verbalizer is benchmarked.

    Attributes:
        seed: of the private split and of every draw; one that you tell nobody keeps your test texts unknown.
        sizes: how much is measured.
        words: tokens of an explanation at most.
        reader: who picks among candidates: ``overlap`` counts rare words in common, ``likelihood`` asks the base model,
            ``both`` adds them.
        cheaters: whether the three planted cheaters run, too.
        agreement_rows: rows on which the other reader, and a judge, are compared with the chosen one.
        resamples: drawn samples of an interval.
    """

    seed: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    words: int = 64
    reader: str = "overlap"
    cheaters: bool = True
    agreement_rows: int = 24
    resamples: int = 1000

    def __post_init__(self) -> None:
        check_counts(self, "words", "agreement_rows", "resamples")
        if self.reader not in READERS:
            raise unknown("reader", self.reader, READERS)


@dataclass(frozen=True)
class Known:
    """What is known of the texts, and who else reads; everything may be left out.

    Attributes:
        explainer: writes the gold words.
        grammar: takes words apart into claims.
        planted: texts with planted facts.
        judge: another blind reader, such as a large language model; its agreement is reported.
    """

    explainer: Explainer | None = None
    grammar: ClaimGrammar | None = None
    planted: Sequence[PlantedFact] = ()
    judge: Any = None
