"""What all data modules share: batches of two sides, and what a checkpoint has to agree with."""

from typing import Any, TypeVar

import lightning as L
from torch.utils.data import DataLoader

from lightning_modules.agreement import check_checkpoint
from lightning_modules.data.resumable_loader import EpochSampler, ResumableLoader
from tl_nla.errors import InputError

Found = TypeVar("Found")


def captured(found: Found | None) -> Found:
    """What ``setup`` captured.

    Raises:
        InputError: before that.
    """
    if found is None:
        raise InputError("nothing was captured yet; call setup() first")
    return found


class ServedModule(L.LightningDataModule):
    """Serves rows to train on and held-out ones.

    Attributes:
        serves: what the rows are; a training names what it needs.
        collated: makes a batch of a list of rows; torch's own way when ``None``.
    """

    serves = "states"
    collated: Any = None
    batch_size: int
    seed: int
    num_workers: int

    def rows(self, train: bool) -> Any:
        """Rows of one side, with a length and by index."""
        raise NotImplementedError

    def order(self, rows: Any) -> EpochSampler | None:
        """Sampler of the training rows; one over all of them when ``None``."""
        return None

    def about(self) -> dict[str, Any]:
        """What a run that goes on has to be given again."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Noted in checkpoints."""
        return self.about()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with a checkpoint.

        Raises:
            InputError: when it is of other data.
        """
        check_checkpoint("data", state_dict, self.about())

    def train_dataloader(self) -> DataLoader[Any]:
        """Training rows in an order fixed by seed and epoch; a checkpoint can put the loader back where it was."""
        rows = self.rows(True)
        settings = {"drop_last": True, "num_workers": self.num_workers, "collate_fn": self.collated}
        return ResumableLoader(rows, self.batch_size, self.seed, self.order(rows), **settings)

    def val_dataloader(self) -> DataLoader[Any]:
        """Rows of the held-out documents."""
        rows, settings = self.rows(False), {"num_workers": self.num_workers, "collate_fn": self.collated}
        return DataLoader(rows, batch_size=self.batch_size, **settings)

    def test_dataloader(self) -> DataLoader[Any]:
        """Those of validation."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Any]:
        """Those of validation."""
        return self.val_dataloader()
