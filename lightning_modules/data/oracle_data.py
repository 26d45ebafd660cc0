"""What a diff oracle is trained on: labelled writes of training and held-out documents."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_modules.data.oracle_config import CaptureSizes
from lightning_modules.training.diff import all_sites, held_out_heads
from tl_nla.data import Document
from tl_nla.data.shards import begin_capture
from tl_nla.model.quantised import scheme_of
from tl_nla.model.sites import Site
from tl_nla.model.targets import Target
from tl_nla.oracle import CaptureConfig, LabelledWrites, capture_writes
from tl_nla.oracle.labels import Vocabulary, expected_vocabulary
from tl_nla.oracle.write_shards import kept_writes


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
    target: Target, train: Sequence[Document], held: Sequence[Document], sizes: CaptureSizes, seed: int,
    keep: Path | None = None,
) -> Captured:  # fmt: skip
    """Label the writes of all heads, attentions, MLPs, blocks and spans.

    Args:
        target: the model.
        train: training documents.
        held: held-out documents.
        sizes: positions, words named, what is left out.
        seed: of positions and of the heads left out.
        keep: folder of what was captured; the next run reads it, and goes on with a capture that was interrupted.

    Raises:
        InputError: when the folder holds the capture of another model, or of other documents or settings.
    """
    sites = oracle_sites(target.model)
    left_out = held_out_heads(sites, sizes.heldout_heads, seed)
    kinds = sizes.kinds or ("head", "attn", "mlp", "block", "span")
    kept = [site for site in sites if site not in left_out and Site.parse(site).kind in kinds]
    untrained = tuple(site for site in sites if site not in kept)
    settings = CaptureConfig(sizes.positions, sizes.top_k, skips=False, seed=seed)
    cut = len(train) - sizes.skip_documents
    named = expected_vocabulary(target.model, target.tokenizer, train)
    begin = getattr(target.model.cfg, "default_prepend_bos", None)
    if keep is not None:
        about = {"model": target.name, "begin token": begin, "dtype": str(next(target.model.parameters()).dtype)}
        scheme = scheme_of(target.model)
        begin_capture(keep, about if scheme is None else {**about, "quantization": scheme})

    def captured(name: str, documents: Sequence[Document], asked: list[str], how: CaptureConfig) -> LabelledWrites:
        if keep is None:
            return capture_writes(target.model, target.tokenizer, documents, asked, how, named)
        return kept_writes(keep / name, target.model, target.tokenizer, documents, asked, how, named)

    parts = [captured(name, chosen, kept, replace(settings, skips=skips)) for name, chosen, skips in
             (("train", train[:cut], False), ("train_skips", train[cut:], True)) if chosen]  # fmt: skip
    writes = LabelledWrites.join(parts)
    reference = writes.reference()
    settings = replace(settings, positions_per_document=sizes.held_positions, skips=sizes.held_skips)
    told = captured("heldout", held, sites, settings).with_strength(reference)
    return Captured(writes.with_strength(reference), told, untrained, train, held, reference, named)


def oracle_sites(model: Any) -> list[str]:
    """All heads, MLPs, attentions and blocks, and the spans between at most five blocks."""
    sites = all_sites(model, ("heads", "mlp", "attn", "blocks"))
    last = int(model.cfg.n_layers) - 1
    ends = sorted({round(last * place / 4) for place in range(5)}) if last > 3 else list(range(last + 1))
    return sites + [f"blocks.{i}.hook_resid_pre -> blocks.{j}.hook_resid_post" for i in ends for j in ends if i < j]
