"""Checkpoint files that are whole or not there."""

import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from tl_nla.errors import InputError
from tl_nla.paths import user_path


def damage(path: str | Path) -> str | None:
    """What is wrong with a checkpoint file, or ``None``; reads all of it and compares its checksums.

    ``torch.load`` notices a truncated file but not a flipped bit, since its reader leaves the checksums out.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        return str(error) or type(error).__name__
    return None if broken is None else f"wrong checksum of {broken}"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old file and takes its place in one move; refuses damaged files.

    Departs from Lightning's own, which writes to the system's temporary folder. From another file system that move is a
    copy. A full disk or a kill in the middle of it leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the checkpoint; until it is wholly on the disk, the file of that name stays what it was.

        Raises:
            InputError: when it cannot be written, such as on a full disk.
        """
        target = user_path(path)
        # The leading dot keeps Lightning, which looks for last*, from taking it for a checkpoint.
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for left in target.parent.glob(f".{target.name}.*.part"):
                left.unlink(missing_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise InputError(
                f"cannot write checkpoint {str(target)!r}: {error}; what was saved before is untouched"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint after checking that it is whole; ``weights_only`` unless told otherwise.

        Raises:
            InputError: when it is missing or damaged, with the newest whole one beside it.
        """
        file = user_path(path)
        if not file.is_file():
            raise InputError(f"no checkpoint {str(file)!r}")
        found = damage(file)
        if found is not None:
            others = sorted(file.parent.glob("*.ckpt"), key=lambda other: other.stat().st_mtime, reverse=True)
            whole = next((other for other in others if other != file and damage(other) is None), None)
            advice = f"the newest whole one is {str(whole)!r}" if whole else "there is no whole one beside it"
            raise InputError(f"checkpoint {str(file)!r} is damaged ({found}); {advice}")
        return super().load_checkpoint(file, map_location or (lambda storage, _: storage), weights_only is not False)
