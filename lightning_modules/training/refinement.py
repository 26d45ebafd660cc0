"""Training of the network behind a reconstructor's head, alike for the reader of every arm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.training.stage import StageConfig, StageSpec
from lightning_modules.training.stages import Stages
from tl_nla.amounts import check_counts
from tl_nla.benchmark.oracle_texts import readable
from tl_nla.errors import InputError
from tl_nla.oracle import WriteReconstructor


@dataclass(frozen=True)
class RefineConfig:
    """How refinements are trained; the defaults are those of the embedded oracle.

    Attributes:
        rows: training writes whose texts are read; half of the oracle's own are in its words, half are labels.
        passes: over them; 0 for readers without a refinement.
        least_steps: steps where the passes over few rows are fewer.
        batch_size: rows a step.
        hidden: width of the network.
        learning_rate: of AdamW.
    """

    rows: int = 100_000
    passes: int = 12
    least_steps: int = 400
    batch_size: int = 1024
    hidden: int = 512
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.passes < 0:
            raise InputError(f"passes is {self.passes}; allowed: 0 for no refinement, or more")
        check_counts(self, "rows", "least_steps", "batch_size", "hidden")

    def drawn(self, count: int, seed: int) -> Tensor:
        """Which of so many writes are read, the same for every arm."""
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed + 2))[: self.rows]

    def steps(self, rows: int) -> int:
        """Steps on so many rows."""
        return max(self.least_steps, -(-self.passes * rows // self.batch_size))


def refine(
    reconstructor: WriteReconstructor, texts: Callable[[], Sequence[str]], write: Float[Tensor, "n d_act"],
    config: RefineConfig, seed: int, stages: Stages, name: str,
) -> None:  # fmt: skip
    """Put a trained network behind the head of a reader, or the one that an earlier run kept.

    Args:
        reconstructor: trained already; all but its refinement stays as it is.
        texts: gives one text a write.
        write: the right writes, in model units.
        config: sizes and steps.
        seed: of the network and of the order of rows.
        stages: of the reader.
        name: of the refinement's stage.
    """
    if not config.passes:
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = reconstructor.add_refinement(config.hidden)
    stages.with_settings(str(config)).run(
        name, network, lambda: refinement_spec(reconstructor, texts(), write, config, seed)
    )
    reconstructor.eval()


def refinement_spec(
    reconstructor: WriteReconstructor, texts: Sequence[str], write: Float[Tensor, "n d_act"], config: RefineConfig,
    seed: int,
) -> StageSpec:  # fmt: skip
    """A stage in which a reader's refinement learns to read texts, whose states are computed once.

    Raises:
        InputError: when it has no refinement.
    """
    if reconstructor.refinement is None:
        raise InputError("the reconstructor has no refinement; call add_refinement() first")
    ends = reconstructor.in_batches(readable(reconstructor, texts), reconstructor.ends)

    def loss(rows: Tensor) -> Tensor:
        return reconstructor.read_loss(reconstructor.read(ends[rows].to(reconstructor.device)), write[rows])

    how = StageConfig(
        config.steps(len(texts)), config.batch_size, config.learning_rate, seed, down=0.4, optimizer="adamw"
    )
    return StageSpec(loss, len(texts), how)
