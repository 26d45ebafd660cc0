"""The "Contributions" tab: a small TensorBoard plugin, found by its entry point; the stock reports need none of it."""

from tl_nla.reports.tensorboard.plugin.names import PLUGIN_NAME, TAG_PREFIX
from tl_nla.reports.tensorboard.plugin.summary import contribution_summary, write_contributions

__all__ = ["PLUGIN_NAME", "TAG_PREFIX", "contribution_summary", "write_contributions"]
