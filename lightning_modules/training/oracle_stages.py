"""What stages of a diff oracle are trained on: texts for a reconstructor, words and answers for a verbalizer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_modules.data.oracle_data import Captured
from lightning_modules.data.write_texts import WriteTexts, collate_writes
from lightning_modules.training.diff import taught_loss
from lightning_modules.training.stage import StageConfig, StageSpec
from tl_nla.benchmark.oracle_score import component_means, start_rows
from tl_nla.benchmark.oracle_texts import MadeTexts, arm_texts, state_texts
from tl_nla.metrics import squared_errors
from tl_nla.model.targets import Target
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import WriteReconstructor, WriteVerbalizer
from tl_nla.oracle.labels import Lens

_CURVE_ROWS, _ENCODED_AT_ONCE = 1500, 10_000


def reconstructor_spec(
    reconstructor: WriteReconstructor, texts: Sequence[str], write: Float[Tensor, "n d_act"], config: StageConfig,
    score: Callable[[], Any] | None = None,
) -> StageSpec:  # fmt: skip
    """A stage in which a reconstructor learns to rebuild writes from texts."""
    prompts = _Prompts(reconstructor, texts)

    def loss(rows: Tensor) -> Tensor:
        return reconstructor.loss_of_prompts(*prompts.batch(rows), write[rows])

    return StageSpec(loss, len(texts), config, score)


def verbalizer_spec(
    verbalizer: WriteVerbalizer, items: WriteTexts, config: StageConfig, beside: Callable[[], Tensor] | None = None
) -> StageSpec:
    """A stage in which a verbalizer learns the right words for writes."""

    def loss(rows: Tensor) -> Tensor:
        own = taught_loss(verbalizer, **collate_writes([items[row] for row in rows.tolist()]))
        return own if beside is None else own + beside()

    return StageSpec(loss, len(items), config)


def texts_of(
    arm: str, data: Captured, split: str, target: Target, seed: int, top_k: int,
    explanations: Sequence[str] | None = None,
) -> list[str]:  # fmt: skip
    """Texts of an arm on one split.

    Args:
        arm: one of :data:`tl_nla.benchmark.oracle_texts.TEXT_ARMS`; the states' own effects where it is ``state``.
        data: captured.
        split: ``"train"`` or ``"heldout"``.
        target: the model that is explained.
        seed: of what is shuffled and left untold.
        top_k: words named on each side.
        explanations: in the place of the labels.
    """
    training = split == "train"
    writes = data.train if training else data.held
    documents = data.train_documents if training else data.held_documents
    states = state_texts(writes, Lens.of(target.model), data.vocabulary, top_k) if arm == "state" else None
    encode = TextEncoder(target.tokenizer, target.model)
    return arm_texts(arm, writes, encode, documents, seed, training, MadeTexts(explanations, states))


def curve_scorer(reconstructor: WriteReconstructor, texts: Sequence[str], data: Captured) -> Callable[[], list[float]]:
    """What scores a reconstructor's learning curve: FVE of each of ``KINDS`` on some held-out writes."""
    held = data.held
    rows = torch.randperm(len(held), generator=torch.Generator().manual_seed(5))[:_CURVE_ROWS]
    means = component_means(data.train, held.sites)
    known = start_rows(held.select(rows), means, data.untrained, 0)

    def score() -> list[float]:
        return known.fve_by_kind(
            squared_errors(reconstructor.reconstruct([texts[row] for row in rows.tolist()]), held.write[rows])
        )

    return score


class _Prompts:
    """Encoded prompts of many texts, without padding."""

    def __init__(self, reconstructor: WriteReconstructor, texts: Sequence[str]) -> None:
        ids, lengths = [], []
        for start in range(0, len(texts), _ENCODED_AT_ONCE):
            rows, real = reconstructor.encode(list(texts[start : start + _ENCODED_AT_ONCE]))
            ids.append(rows[real].int())
            lengths.append(real.sum(1))
        self.ids, self.lengths = torch.cat(ids), torch.cat(lengths)
        self.starts = self.lengths.cumsum(0) - self.lengths

    def batch(self, rows: Int[Tensor, " n"]) -> tuple[Int[Tensor, "n length"], Bool[Tensor, "n length"]]:
        """Ids of some rows, padded behind the text with any id, and where they are real."""
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()))
        real = places < lengths[:, None]
        return self.ids[(self.starts[rows][:, None] + places) * real].long(), real
