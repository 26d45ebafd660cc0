"""Study ``spans``: the suite on the embedded oracles."""

from docs.studies.oracle_rows import stored
from tl_nla.benchmark import spans_suite
from tl_nla.benchmark.results import Results
from tl_nla.cli.suite_options import add_figure

__all__ = ["add_arguments", "evaluate"]

add_arguments = add_figure("spans")


def evaluate(figure: str | None = None) -> Results:
    """The suite on the stored row scores.

    Args:
        figure: image file.
    """
    return spans_suite.evaluate(stored(), figure)
