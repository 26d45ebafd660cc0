"""Contribution reports in stock TensorBoard: scalars, heat maps, tables, histograms, a projector, hyperparameters.

Stock TensorBoard keeps only a sample of the steps of a tag (ten, for images always and for text without its fast
loader). Tables and images therefore go to numbered tags of ten reports each, ``table/0``, ``table/1``, and so on, so
that each of them can be opened later.
"""

import importlib.util
import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tl_nla.errors import InputError
from tl_nla.markdown import escape
from tl_nla.reports.report import ContributionReport
from tl_nla.reports.report_schema import TAG_PREFIX

PAGE = 10
"""Reports a tag: as many steps as TensorBoard keeps of an image or a text at its strictest."""
NO_FIGURES = "they need matplotlib, which pip install 'tl-nla[plots]' brings"
_PARTS = ("attn", "mixer", "mlp", "ple", "block")
_counts: "weakref.WeakKeyDictionary[Any, dict[str, int]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class LogConfig:
    """What is written beside the scalars and tables of a report.

    Attributes:
        images: whether heat maps are drawn; without matplotlib they are left out with a warning.
        embeddings: whether the writes go to the projector, coloured by layer; a folder of files a step.
        tab: whether the report's JSON is written for the Contributions tab.
    """

    images: bool = True
    embeddings: bool = False
    tab: bool = True


def log_report(
    writer: Any, report: ContributionReport, step: int, name: str = "prompt", *, number: int | None = None,
    how: LogConfig | None = None,
) -> None:  # fmt: skip
    """Write one report to a run.

    Tags, all behind ``contributions/<name>/``: ``direct/layer_0`` (and ``embed``, ``bias``), ``skip_kl/layer_0``,
    ``skip_target/layer_0``, ``target``, ``table/0``, ``heat/...``, ``direct_of_heads``, ``writes``.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``, such as ``TensorBoardLogger.experiment``.
        report: the report.
        step: training step, from 0.
        name: of the prompt; one path segment of the tags.
        number: how many reports of this prompt the run holds already; counted for each writer when ``None``.
        how: what is written beside scalars and tables.

    Raises:
        InputError: when the writer writes no summaries, or a name or step cannot be used.

    Example:
        ``log_report(logger.experiment, report, step=100, how=LogConfig(images=False))``
    """
    how = how or LogConfig()
    prefix = _prefix(writer, name, step)
    known = _counts.setdefault(writer, {})
    count = known.get(name, 0) if number is None else number
    known[name] = count + 1
    page = count // PAGE
    for tag, value in scalars(report).items():
        writer.add_scalar(f"{prefix}/{tag}", value, step)
    writer.add_text(f"{prefix}/table/{page}", "\n" + report.to_markdown(narrow=True), step)
    heads = torch.tensor([cell.direct for cell in report.cells if cell.component == "head"])
    heads = heads[torch.isfinite(heads)]  # TensorBoard raises on empty and on non-finite histograms
    if len(heads):
        writer.add_histogram(f"{prefix}/direct_of_heads", heads, step)
    if how.images and can_draw():
        for kind, figure in report.figures().items():
            writer.add_figure(f"{prefix}/{kind}/{page}", figure, step, close=False)
    elif how.images:
        warnings.warn(f"the report is logged without heat maps: {NO_FIGURES}", stacklevel=2)
    if how.embeddings:
        log_writes(writer, report, step, name)
    if how.tab:
        from tl_nla.reports.tensorboard.plugin.summary import write_contributions

        write_contributions(writer, TAG_PREFIX + segment(name), report.to_dict(), step)


def can_draw() -> bool:
    """Whether heat maps can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None


def scalars(report: ContributionReport) -> dict[str, float]:
    """Means over the reported positions, by tag."""
    found: dict[str, list[float]] = {}
    for cell in report.cells:
        layer = f"layer_{cell.layer}"
        if cell.component in ("embed", "bias", "rounding"):
            found.setdefault(f"direct/{cell.component}", []).append(cell.direct)
        if cell.component == "block":
            found.setdefault(f"direct/{layer}", []).append(cell.direct)
        if cell.component in _PARTS and cell.skip_kl is not None:
            part = layer if cell.component == "block" else f"{layer}_{cell.component}"
            found.setdefault(f"skip_kl/{part}", []).append(cell.skip_kl)
            found.setdefault(f"skip_target/{part}", []).append(cell.skip_target_change or 0.0)
    positions = len(report.positions)
    values = {tag: sum(column) / positions for tag, column in found.items()}
    values["target"] = sum(report.totals) / positions
    if report.unaccounted_share:
        values["unaccounted_share"] = max(report.unaccounted_share)
    values["unaccounted"] = max(abs(report.sum_of_parts(place) - total) for place, total in
                                zip(report.positions, report.totals, strict=True))  # fmt: skip
    return values


def log_layout(writer: Any, names: Sequence[str]) -> None:
    """Describe the Custom Scalars page: for each prompt the layers' curves side by side. Once for each writer.

    Args:
        writer: as for :func:`log_report`.
        names: of the prompts.
    """
    layout = {}
    for name in names:
        prefix = _prefix(writer, name, 0)
        charts = {"direct, by layer": "direct/layer_", "KL when skipped, by layer": "skip_kl/layer_",
                  "change of log p(target) when skipped": "skip_target/layer_"}  # fmt: skip
        layout[f"contributions {segment(name)}"] = {
            title: ["Multiline", [f"^{_quote(f'{prefix}/{tag}')}[0-9]+$"]] for title, tag in charts.items()
        }
    writer.add_custom_scalars(layout)


def log_hparams(writer: Any, settings: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
    """Put settings on the HPARAMS page of this very run (``SummaryWriter.add_hparams`` would open another one).

    Args:
        writer: as for :func:`log_report`.
        settings: any values; what TensorBoard cannot hold is written as text.
        metrics: scalar tags to show beside them, with their values.
    """
    from torch.utils.tensorboard.summary import hparams

    simple = {key: value if isinstance(value, int | float | str) else str(value) for key, value in settings.items()}
    file_writer = _file_writer(writer)
    for summary in hparams(simple, dict(metrics or {})):
        file_writer.add_summary(summary)
    for tag, value in (metrics or {}).items():
        writer.add_scalar(tag, value)


def segment(name: str) -> str:
    """A prompt's name as one path segment of a tag: no slash, nothing unprintable, not empty, at most 80 characters."""
    kept = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in name[:80]).strip()
    return kept.encode("utf-8", "replace").decode("utf-8") or "prompt"


def _prefix(writer: Any, name: str, step: int) -> str:
    _file_writer(writer)
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise InputError(f"a step is a whole number from zero on; got {step!r}")
    return TAG_PREFIX + segment(name)


def _file_writer(writer: Any) -> Any:
    get = getattr(writer, "_get_file_writer", None)
    if get is None or not hasattr(writer, "add_custom_scalars"):
        raise InputError(
            f"{type(writer).__name__} is no TensorBoard writer; give a torch.utils.tensorboard.SummaryWriter, such as "
            "the `experiment` of Lightning's TensorBoardLogger"
        )
    return get()


def log_writes(writer: Any, report: ContributionReport, step: int, name: str = "prompt") -> None:
    """Put the writes of a report into the projector, to be coloured by layer or part; a folder of files a step.

    Args: as for :func:`log_report`. A report that was read from JSON holds no writes, so nothing is written.
    """
    tag = f"{_prefix(writer, name, step)}/writes"
    if report.writes is None:
        return
    cells = [cell for cell in report.cells if cell.site is not None]
    header = ["layer", "part", "token", "target", "explanation"]
    target = dict(zip(report.positions, report.targets, strict=True))
    rows = [[str(cell.layer), cell.name, _field(report.tokens[cell.position]), _field(target[cell.position]),
             _field(cell.explanation)] for cell in cells]  # fmt: skip
    writer.add_embedding(report.writes, rows, metadata_header=header, tag=tag.replace("/", "_"), global_step=step)


def _field(text: str) -> str:
    """Text for a TSV file: the projector has no way to escape tabs and line breaks."""
    return escape(text, 200).replace("\\", "") or "–"


def _quote(text: str) -> str:
    """A tag as a regular expression of the custom scalars page."""
    return "".join(char if char.isalnum() or char in "/_ -" else "\\" + char for char in text)
