"""Study ``questions``: are the answers of the embedded oracles right?"""

from docs.studies.oracle_rows import stored
from tl_nla.benchmark import questions_suite
from tl_nla.benchmark.results import Results


def evaluate() -> Results:
    """The suite on the stored row scores."""
    return questions_suite.evaluate(stored())
