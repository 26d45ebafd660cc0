"""What a diff oracle is trained on: settings, and labelled writes of training and held-out documents."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_modules.training.diff import all_sites, held_out_heads
from lightning_modules.training.precision import known_device, known_precision
from lightning_modules.training.refinement import RefineConfig
from tl_nla.data import Document
from tl_nla.model.sites import Site
from tl_nla.model.targets import Target
from tl_nla.oracle import CaptureConfig, LabelledWrites, capture_writes
from tl_nla.oracle.labels import Vocabulary, expected_vocabulary


@dataclass(frozen=True)
class OracleConfig:
    """What an oracle is trained on and for how long; the defaults are those of the embedded one.

    Attributes:
        documents: training documents.
        skip_documents: how many of them (the last) also have the ``skip`` question labelled.
        held_documents: held-out documents.
        positions: positions of each training document.
        held_positions: positions of each held-out document.
        top_k: words named on each side.
        blocks: how many blocks the reconstructors keep.
        reader_steps: steps of the reader.
        steps: steps of the reconstructor on labels.
        questions: questions a training write, beside its explanation.
        batch_size: rows a step.
        learning_rate: of Muon in all trainings; the step on the oracle's own words has half of it.
        precision: of the matrix products of all trainings (:mod:`lightning_modules.training.precision`).
        device: that readers and reconstructors are trained on; not part of what a kept part was trained with.
        kinds: of writes that are trained on, such as ``head``; all where it is empty.
        heldout_heads: share of heads that nothing is trained on.
        own_words: training writes that the reader explains, for the reconstructor to learn its words.
        own_steps: steps of the reconstructor on these and on as many labels; every arm's own reader has as many more.
        arms: arms with a reader of their own that are trained beside the reconstructor.
        long_steps: steps of the reader of ``cat_long``, which sees attentions only; 0 for none.
        encoder_documents: documents behind the training ones of a stream of stories that the encoder of the reader's
            source slots is fitted on; 0 for a reader without.
        encoder_positions: positions of each of them.
        practice_steps: steps in which the trained reader learns to say what stands in its source slots.
        practice_documents: documents behind those, whose heads and attentions it is asked about meanwhile.
        practice_batch: such questions a step, beside the usual items.
        rehearsal_steps: steps afterwards in which the reader is also asked much about skips.
        refine: of the networks behind the heads of all reconstructors; not part of what other kept parts were trained
            with.
        injection_char: marker of the reader; chosen or added when ``None`` (:meth:`tl_nla.DiffOracle.create`).
    """

    documents: int = 3100
    skip_documents: int = 500
    held_documents: int = 100
    positions: int = 2
    held_positions: int = 3
    top_k: int = 8
    blocks: int = 2
    reader_steps: int = 12_000
    steps: int = 4000
    questions: int = 1
    batch_size: int = 32
    learning_rate: float = 0.01
    precision: str = "highest"
    device: str = field(default="cpu", repr=False)
    kinds: tuple[str, ...] = ()
    heldout_heads: float = 0.0
    own_words: int = 20_000
    own_steps: int = 1000
    arms: tuple[str, ...] = ("cat", "cat_and_explanation", "state")
    long_steps: int = 1000
    encoder_documents: int = 11_000
    encoder_positions: int = 16
    practice_steps: int = 2400
    practice_documents: int = 1200
    practice_batch: int = 32
    rehearsal_steps: int = 400
    refine: RefineConfig = field(default=RefineConfig(), repr=False)
    injection_char: str | None = None

    def __post_init__(self) -> None:
        known_precision(self.precision)
        known_device(self.device)


SMALL = OracleConfig(
    documents=300, skip_documents=60, held_documents=30, held_positions=3, top_k=4, reader_steps=300, steps=200,
    questions=2, learning_rate=0.02, heldout_heads=0.25, own_words=600, own_steps=50, long_steps=50,
    encoder_documents=0, refine=RefineConfig(10_000, 40, 1, 256, 256),
)  # fmt: skip
"""A few minutes on one core for a small model: shows that everything runs, not how good it can get. No source slots:
with so few documents they help sources (.30 to .40 on the embedded model, one run) and harm other answers more.
Refinements bring the FVE of heads' words from .09 to .39 there (.45 with twice the rows and time)."""

QUICK = OracleConfig(
    documents=12, skip_documents=6, held_documents=6, positions=1, held_positions=2, top_k=4, blocks=1, reader_steps=2,
    steps=2, batch_size=4, heldout_heads=0.25, own_words=8, own_steps=2, long_steps=2,
    encoder_documents=12, encoder_positions=2, practice_steps=2, practice_documents=4, practice_batch=4,
    rehearsal_steps=2, refine=RefineConfig(8, 1, 2, 4, 8),
)  # fmt: skip
"""A test of the path."""


@dataclass(frozen=True)
class Captured:
    """Labelled writes of both splits, and the texts they are from."""

    train: LabelledWrites
    held: LabelledWrites
    untrained: tuple[str, ...]
    train_documents: Sequence[Document]
    held_documents: Sequence[Document]
    reference: Any
    vocabulary: Vocabulary


def capture(
    target: Target, train: Sequence[Document], held: Sequence[Document], config: OracleConfig, seed: int
) -> Captured:
    """Label the writes of all heads, attentions, MLPs, blocks and spans.

    Args:
        target: the model.
        train: training documents.
        held: held-out documents.
        config: sizes.
        seed: of positions and of the heads left out.
    """
    sites = oracle_sites(target.model)
    left_out = held_out_heads(sites, config.heldout_heads, seed)
    kinds = config.kinds or ("head", "attn", "mlp", "block", "span")
    kept = [site for site in sites if site not in left_out and Site.parse(site).kind in kinds]
    untrained = tuple(site for site in sites if site not in kept)
    settings = CaptureConfig(config.positions, config.top_k, skips=False, seed=seed)
    cut = len(train) - config.skip_documents
    named = expected_vocabulary(target.model, target.tokenizer, train)
    parts = [capture_writes(target.model, target.tokenizer, chosen, kept, replace(settings, skips=skips), named)
             for chosen, skips in ((train[:cut], False), (train[cut:], True)) if chosen]  # fmt: skip
    writes = LabelledWrites.join(parts)
    reference = writes.reference()
    settings = replace(settings, positions_per_document=config.held_positions, skips=True)
    told = capture_writes(target.model, target.tokenizer, held, sites, settings, named).with_strength(reference)
    return Captured(writes.with_strength(reference), told, untrained, train, held, reference, named)


def oracle_sites(model: Any) -> list[str]:
    """All heads, MLPs, attentions and blocks, and the spans between at most five blocks."""
    sites = all_sites(model, ("heads", "mlp", "attn", "blocks"))
    last = int(model.cfg.n_layers) - 1
    ends = sorted({round(last * place / 4) for place in range(5)}) if last > 3 else list(range(last + 1))
    return sites + [f"blocks.{i}.hook_resid_pre -> blocks.{j}.hook_resid_post" for i in ends for j in ends if i < j]
