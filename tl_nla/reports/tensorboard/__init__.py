"""What a report looks like in TensorBoard: stock summaries, and a small tab of our own."""

from tl_nla._lazy import lazy

__all__ = ["LogConfig", "log_hparams", "log_layout", "log_report", "log_writes", "scalars"]

# The writing side is imported when it is first used: TensorBoard's server loads this package and needs no torch.
__getattr__ = lazy(__name__, dict.fromkeys(__all__, "tl_nla.reports.tensorboard.log"))
