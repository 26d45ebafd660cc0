"""Contribution reports as TensorBoard summaries: one string tensor with the packed report per step."""

import json
from typing import Any

from tl_nla.errors import InputError
from tl_nla.reports.tensorboard.plugin.names import PLUGIN_NAME, TAG_PREFIX


def contribution_summary(tag: str, report: dict[str, Any]) -> Any:
    """Turn a report into the summary that the Contributions tab reads.

    The report is packed as :mod:`tl_nla.reports.packed` says, its numbers rounded to four digits. Numbers that are not
    finite are left out; text that is no valid Unicode (half of a surrogate pair) is kept.

    Args:
        tag: ``contributions/<prompt name>``; the prefix is added when it is missing.
        report: what ``ContributionReport.to_dict()`` gives.

    Returns:
        A ``tensorboard.compat.proto.summary_pb2.Summary`` with one value.

    Raises:
        InputError: the tag is empty or the dict is no contribution report.
    """
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

    from tl_nla.reports.packed import pack
    from tl_nla.reports.report_schema import check_report

    name = tag.removeprefix(TAG_PREFIX)
    if not name.strip():
        raise InputError(f"a contribution report needs the name of its prompt as tag; got {tag!r}")
    text = json.dumps(pack(check_report(report)), separators=(",", ":"))
    metadata = summary_pb2.SummaryMetadata(
        display_name=_valid_text(name),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME),
    )
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, string_val=[text.encode()], tensor_shape=tensor_shape_pb2.TensorShapeProto()
    )
    value = summary_pb2.Summary.Value(tag=TAG_PREFIX + _valid_text(name), metadata=metadata, tensor=tensor)
    return summary_pb2.Summary(value=[value])


def write_contributions(writer: Any, tag: str, report: dict[str, Any], step: int) -> None:
    """Write a report for the Contributions tab.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``, as Lightning's ``logger.experiment`` is one too. On ranks
            where Lightning hands out an idle one, nothing is written.
        tag: ``contributions/<prompt name>``; the prefix is added when it is missing.
        report: what ``ContributionReport.to_dict()`` gives.
        step: training step, zero or more.

    Raises:
        InputError: the tag, the report or the step cannot be used; nothing is written then.
    """
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise InputError(f"a step is a whole number from zero on; got {step!r}")
    summary = contribution_summary(tag, report)
    get_file_writer = getattr(writer, "_get_file_writer", None)
    if get_file_writer is None:
        raise InputError(
            f"{type(writer).__name__} writes no TensorBoard summaries; give a torch.utils.tensorboard.SummaryWriter "
            "or the experiment of Lightning's TensorBoardLogger"
        )
    file_writer = get_file_writer()
    if file_writer is not None:
        file_writer.add_summary(summary, step)


def _valid_text(text: str) -> str:
    """Text that UTF-8 can hold: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
