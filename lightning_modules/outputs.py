"""Whatever a run of the Trainer writes at its end can be written: asked before the run."""

from typing import Any

from tl_nla.outputs import check_folder


def fast_dev_run(trainer: Any) -> bool:
    """Whether a Trainer only tries its path, and writes nothing."""
    return bool(trainer.fast_dev_run)


def check_outputs(trainer: Any, stage: str, config_saved: bool = False) -> None:
    """Ask every callback and logger of a Trainer whether it will be able to write.

    Callbacks that write have a ``check_outputs(stage)`` of their own; Lightning's are asked for their folders. With
    ``fast_dev_run`` neither loggers nor checkpoints are in use.

    Args:
        trainer: with its callbacks and loggers.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
        config_saved: whether the command line saves its configuration beside the logs.

    Raises:
        InputError: naming the folder at fault.
    """
    if not trainer.is_global_zero:
        return
    for callback in trainer.callbacks:
        if hasattr(callback, "check_outputs"):
            callback.check_outputs(stage)
    if trainer.fast_dev_run:
        return
    if stage == "fit":
        check_checkpoints(trainer)
    folders = [logger.save_dir for logger in trainer.loggers]
    if config_saved and not folders:
        folders = [trainer.default_root_dir]
    for folder in folders:
        _check_local(folder)


def check_checkpoints(trainer: Any) -> None:
    """Ask for the folders of Lightning's checkpoints."""
    if not trainer.fast_dev_run:
        for callback in trainer.checkpoint_callbacks:
            _check_local(getattr(callback, "dirpath", None) or trainer.default_root_dir)


def _check_local(folder: Any) -> None:
    if folder is not None and "://" not in str(folder):  # a bucket is for its own library to judge
        check_folder(folder)
