"""Training of a refinement with Lightning: the network behind a write reconstructor's head, and nothing else."""

from torch import Tensor

from lightning_modules.training.diff import DiffNLATraining
from tl_nla.oracle import DiffOracle


class WriteRefinementTraining(DiffNLATraining):
    """Last part of the diff NLA's warm start: the trained reconstructor's reading is corrected by a network.

    Backbone and head stay as they are, so a pass costs a third of one in :class:`DiffNLATraining`.

    Args:
        hidden: width of the network, where the oracle has none yet.
        model, learning_rate, weight_decay, oracle, optimizer, injection_char: as for :class:`DiffOracleTraining`.
    """

    def __init__(
        self, model: str = "tiny", hidden: int = 512, learning_rate: float = 1e-3, weight_decay: float = 0.01,
        oracle: DiffOracle | None = None, optimizer: str = "adamw", injection_char: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, learning_rate, weight_decay, oracle, optimizer, injection_char)
        self.save_hyperparameters("model", "hidden", "learning_rate", "weight_decay", "optimizer")
        network = self.reconstructor.refinement or self.reconstructor.add_refinement(hidden)
        self.reconstructor.requires_grad_(False)
        network.requires_grad_(True)

    def _loss(self, texts: list[str], write: Tensor) -> Tensor:
        # What prefixes give is read by the head alone, which is not trained.
        return self.reconstructor.loss(texts, write, prefix_weight=0.0)

    def on_fit_end(self) -> None:
        """Let later trainings change the whole reconstructor again."""
        self.reconstructor.requires_grad_(True)
