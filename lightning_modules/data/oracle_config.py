"""How a diff oracle is trained: what is captured, how long each stage takes, what readers have beside."""

from dataclasses import dataclass, field

from lightning_modules.training.precision import known_precision
from lightning_modules.training.refinement import RefineConfig
from tl_nla.errors import InputError
from tl_nla.model.placement import known_device


@dataclass(frozen=True)
class CaptureSizes:
    """What is read of the model that is explained.

    Attributes:
        documents: training documents.
        skip_documents: how many of them (the last) also have the ``skip`` question labelled.
        held_documents: held-out documents.
        positions: positions of each training document.
        held_positions: positions of each held-out document.
        top_k: words named on each side.
        kinds: of writes that are trained on, such as ``head``; all where it is empty.
        heldout_heads: share of heads that nothing is trained on.
        held_skips: whether held-out documents have the ``skip`` question labelled, which takes most of their time.
    """

    documents: int = 3100
    skip_documents: int = 500
    held_documents: int = 100
    positions: int = 2
    held_positions: int = 3
    top_k: int = 8
    kinds: tuple[str, ...] = ()
    heldout_heads: float = 0.0
    held_skips: bool = field(default=True, repr=False)


@dataclass(frozen=True)
class StageLengths:
    """Optimiser steps of the stages.

    Attributes:
        verbalizer: of the verbalizer, on explanations and answers.
        reconstructor: of the reconstructor, on label texts.
        own_words: of the reconstructor, on the verbalizer's own words and as many labels; 0 for none. Every arm's own
            reader has as many more.
        own_writes: training writes that the verbalizer explains for these.
        long_context: of the reader of ``cat_long``, which sees attentions only; 0 for none.
    """

    verbalizer: int = 12_000
    reconstructor: int = 4000
    own_words: int = 1000
    own_writes: int = 20_000
    long_context: int = 1000


@dataclass(frozen=True)
class SourceSlotConfig:
    """How a verbalizer gets source slots.

    Attributes:
        documents: that the encoder of the slots is fitted on.
        positions: of each of them.
        practice_steps: steps in which the trained verbalizer learns to say what stands in its slots.
        practice_documents: documents behind those, whose heads and attentions it is asked about meanwhile.
        practice_batch: such questions a step, beside the usual items.
        rehearsal_steps: steps afterwards in which the verbalizer is also asked much about skips; 0 for none.
    """

    documents: int = 11_000
    positions: int = 16
    practice_steps: int = 2400
    practice_documents: int = 1200
    practice_batch: int = 32
    rehearsal_steps: int = 400

    def __post_init__(self) -> None:
        for name in ("documents", "positions", "practice_steps", "practice_documents"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1 is needed (sources=None for no slots)")


@dataclass(frozen=True)
class OracleConfig:
    """What an oracle is trained on and for how long; the defaults are those of the embedded one.

    Attributes:
        sizes: what is captured.
        lengths: steps of the stages.
        sources: of the verbalizer's source slots; ``None`` for one without.
        refine: of the networks behind the heads of all reconstructors; not part of what other kept stages were trained
            with.
        arms: arms with a reader of their own that are trained beside the reconstructor.
        blocks: how many blocks the reconstructors keep.
        questions: questions a training write, beside its explanation.
        batch_size: rows a step.
        learning_rate: of Muon in all stages; the one on the oracle's own words has half of it. ``None`` finds one on
            your model (:mod:`lightning_modules.training.rate_search`).
        precision: of the matrix products of all trainings (:mod:`lightning_modules.training.precision`).
        device: that verbalizers and reconstructors are trained on; not part of what a kept stage was trained with.
        injection_char: marker of the verbalizer; chosen or added when ``None`` (:meth:`tl_nla.DiffOracle.create`).
    """

    sizes: CaptureSizes = CaptureSizes()
    lengths: StageLengths = StageLengths()
    sources: SourceSlotConfig | None = SourceSlotConfig()
    refine: RefineConfig = field(default=RefineConfig(), repr=False)
    arms: tuple[str, ...] = ("cat", "cat_and_explanation", "state")
    blocks: int = 2
    questions: int = 1
    batch_size: int = 32
    learning_rate: float | None = 0.01
    precision: str = "highest"
    device: str = field(default="cpu", repr=False)
    injection_char: str | None = None

    def __post_init__(self) -> None:
        known_precision(self.precision)
        known_device(self.device)

    @property
    def rate(self) -> float:
        """The learning rate, once there is one.

        Raises:
            InputError: when it is still to be found on the model.
        """
        if self.learning_rate is None:
            raise InputError("learning_rate is None and was not found yet; give a number, such as 0.005")
        return self.learning_rate


SMALL = OracleConfig(
    CaptureSizes(documents=300, skip_documents=60, held_documents=30, top_k=4, heldout_heads=0.25),
    StageLengths(verbalizer=1500, reconstructor=1500, own_words=300, own_writes=600, long_context=300),
    sources=None,
    refine=RefineConfig(10_000, 40, 1, 256, 256),
    questions=2,
    learning_rate=None,
)
"""For a small model on one core. Two story models of 260,000 parameters, one seed each: with 200 steps labels of heads
were read at FVE .02, below the component's name (.17); on the other, 1,500 steps at .005 gave .26, and .47 refined,
above its name (.12). No source slots: with so few documents they help sources (.30 to .40 on the embedded model, one
run) and harm other answers more."""

QUICK = OracleConfig(
    CaptureSizes(12, 6, 6, positions=1, held_positions=2, top_k=4, heldout_heads=0.25),
    StageLengths(verbalizer=2, reconstructor=2, own_words=2, own_writes=8, long_context=2),
    SourceSlotConfig(12, 2, practice_steps=2, practice_documents=4, practice_batch=4, rehearsal_steps=2),
    RefineConfig(8, 1, 2, 4, 8),
    blocks=1,
    batch_size=4,
)
"""A test of the path."""
