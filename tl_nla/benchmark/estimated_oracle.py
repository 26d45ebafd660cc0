"""What the training of a diff oracle takes, stage by stage, before anything is loaded."""

from dataclasses import dataclass
from typing import Any

from tl_nla.benchmark.estimate import Estimate, Workload, configuration, estimate

_FLOAT32 = 4
STAGES = {"capture": "capture-writes", "verbalizer": "oracle", "reconstructor": "oracle-reconstructor"}


@dataclass(frozen=True)
class OracleWork:
    """How much a diff oracle is trained on.

    Attributes:
        documents: that are captured, training and held-out ones.
        positions: of each of them.
        tokens: of a document; of an explanation or answer it is ``answer``.
        answer: tokens of the longest explanation of a batch.
        batch_size: writes a step.
        blocks: that the reconstructor keeps.
    """

    documents: int = 330
    positions: int = 2
    tokens: int = 256
    answer: int = 60
    batch_size: int = 32
    blocks: int = 2


@dataclass(frozen=True)
class OracleEstimate:
    """The stages of ``fit-oracle``, one after the other; the target, the oracle and the captured rows stay in memory.

    Attributes:
        stages: the estimate of each, by name.
        beside: bytes that are held beside each stage: the target's weights, the rows, the part that waits.
    """

    stages: dict[str, Estimate]
    beside: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of tensors at the fullest moment of all."""
        return max(found.total + self.beside[name] for name, found in self.stages.items())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        stages = {name: {**found.as_dict(), "beside": self.beside[name]} for name, found in self.stages.items()}
        return {"stages": stages, "total": self.total}

    def to_table(self) -> str:
        """For the terminal, in GB of 10⁹ bytes."""
        names = ("weights", "optimiser", "gradients", "activ.", "logits", "beside", "total")
        lines = ["estimate of fit-oracle, GB", f"{'stage':<13}" + "".join(f"{name:>9}" for name in names)]
        for stage, found in self.stages.items():
            beside = self.beside[stage]
            sizes = [found.weights, found.optimiser, found.gradients, found.activations, found.logits, beside,
                     found.total + beside]  # fmt: skip
            lines.append(f"{stage:<13}" + "".join(f"{size / 1e9:>9.3f}" for size in sizes))
        notes = [f"note: {note}" for note in self.stages["capture"].notes]
        return "\n".join([*lines, f"{self.total / 1e9:.3f} GB at the fullest moment", *notes])


def estimate_oracle(model: Any, work: OracleWork | None = None, dtype: str = "float32") -> OracleEstimate:
    """Memory of every stage of an oracle's training on a model, from its configuration alone.

    Args:
        model: see :func:`tl_nla.benchmark.estimate.estimate`.
        work: how much is captured and trained on at once.
        dtype: of the target; the oracle is trained in float32.

    Example:
        >>> print(estimate_oracle("tiny").to_table())
    """
    work, config = work or OracleWork(), configuration(model)
    blocks = min(work.blocks, int(config.num_hidden_layers))
    read = Workload(tokens=work.tokens, documents=work.documents, positions=work.positions)
    trained = Workload(batch_size=work.batch_size, tokens=work.answer, layer=blocks - 1)
    capture = estimate(config, STAGES["capture"], read, dtype)
    verbalizer, reconstructor = (
        estimate(config, STAGES[name], trained, optimizer="muon") for name in ("verbalizer", "reconstructor")
    )
    stages = {"capture": capture, "verbalizer": verbalizer, "reconstructor": reconstructor}
    held = capture.weights + captured_bytes(config, work)
    beside = {"capture": 0, "verbalizer": held + reconstructor.weights, "reconstructor": held + verbalizer.weights}
    return OracleEstimate(stages, beside)


def captured_bytes(config: Any, work: OracleWork) -> int:
    """Bytes of the captured writes and of the states before them: all heads, attentions, MLPs and blocks."""
    sites = int(config.num_hidden_layers) * (int(config.num_attention_heads) + 3)
    return 2 * work.documents * work.positions * sites * int(config.hidden_size) * _FLOAT32
