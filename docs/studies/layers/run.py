"""Study ``layers``: the suite on the embedded oracles, beside the baseline of two explanations."""

from dataclasses import replace

from docs.studies.layers.two_explanations import DEFINITION, two_explanations_rows
from docs.studies.oracle_rows import stored
from tl_nla.benchmark import layers_suite
from tl_nla.benchmark.results import Results
from tl_nla.storyworld.tiny import load_tiny


def evaluate() -> Results:
    """The suite on the stored row scores; the baseline is scored afresh with the embedded pair."""
    scored, tiny = stored(), load_tiny()
    results = layers_suite.evaluate(scored)
    more = two_explanations_rows(tiny.nla, tiny.model, tiny.tokenizer, scored.parts[0].means[0])
    return replace(results, rows=[*results.rows, *more], definition={**results.definition, **DEFINITION})
