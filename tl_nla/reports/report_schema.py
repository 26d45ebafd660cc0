"""The JSON of a contribution report, version 1: what ``ContributionReport.to_dict`` gives and the own tab reads.

::

    {"schema": 1,
     "model": "tiny",                 name of the model
     "prompt": "Tom went to ...",     the text, special tokens included as the tokenizer writes them
     "tokens": ["<s>", "Tom", ...],   text of every token of the prompt
     "positions": [10, 11],           columns of ``tokens`` that are reported, ascending
     "target": {"kind": "logit",      "logit" | "difference" | "log_prob" (in nats, linearised at the prediction)
                "tokens": ["park", "."],      the token explained at each position, in the order of ``positions``
                "against": [] },              the other token of a difference at each position, else empty
     "predictions": [[["park", 0.93], ["farm", 0.01]], ...],   at each position the likeliest next tokens
     "n_layers": 4, "n_heads": 4,
     "cells": [{
        "layer": 2,                   -1 for "embed"; n_layers for the final norm's and unembedding's "bias"
        "component": "head",          one of ``COMPONENTS``
        "part": "attn",               whose head or bias it is, "attn" or "mixer"
        "head": 3,                    null for all others
        "position": 10,               a member of ``positions``
        "direct": 1.25,               what it adds straight to the target (units of ``target.kind``)
        "skip_kl": 0.31,              KL(clean || without it) in nats; null where not skipped ("embed", "bias")
        "skip_target_change": -0.4,   log p(target) without it minus with it; negative: it helps the target; or null
        "skip_flip": true,            whether the likeliest next token changes without it; false where not skipped
        "strength": 0.42,             norm of what it writes over the norm of the state it is added to; null for "embed"
        "sources": [["Tom", 0.71]],   for "head" and "attn": tokens it read with their shares, strongest first
        "source_positions": [1],      the columns of these tokens
        "promoted": ["park"],         tokens that its write makes more likely, strongest first
        "suppressed": ["sky"],
        "explanation": "It ..."       the oracle's words, or without an oracle the label computed from the model
     }, ...],
     "explained_by": "oracle",        "oracle" | "labels"
     "notes": ["..."],                what could not be split or left out, and why
     "cards": {"blocks.2.attn.head.3": "..."},   optional: what is known of a component in general, by its site
     "total": {"logit": [9.1, 8.7],          the model's own number at each position
               "sum_of_parts": [9.1, 8.7],   sum of the "direct" of all cells that nothing finer replaces
               "unaccounted": [0.0, 0.0],    "logit" less "sum_of_parts"
               "unaccounted_share": [0, 0]}} the same as a share of the range of that position's logits

The component "attn" is the sum of its layer's "head" cells and of that layer's "bias". The component "block" is the sum
of its layer's parts. So these take part in the sum only where the model's own numbers permit nothing finer. The
component "rounding" is what storing the stream in the model's precision added. A TensorBoard run holds it packed
(:mod:`tl_nla.reports.packed`) as a string tensor of plugin ``tl_nla_contributions``, tag
``contributions/<prompt name>``, one a step.
"""

from typing import Any

from tl_nla.errors import InputError

SCHEMA = 1
TAG_PREFIX = "contributions/"
COMPONENTS = ("embed", "block", "attn", "mixer", "head", "mlp", "ple", "bias", "rounding")
SUMMED = ("embed", "head", "mlp", "ple", "bias", "rounding")
"""Components whose direct contributions add up to the total, with those that nothing finer replaces."""
WARNED = 0.01
"""Share of a position's range of logits that may be unaccounted for before a report carries a warning."""
_KEYS = {
    "schema": int, "model": str, "prompt": str, "tokens": list, "positions": list, "target": dict, "predictions": list,
    "n_layers": int, "n_heads": int, "cells": list, "explained_by": str, "total": dict,
}  # fmt: skip
_CELL_KEYS = (
    *("layer", "component", "head", "position", "direct", "skip_kl", "skip_target_change", "skip_flip", "strength"),
    *("sources", "source_positions", "promoted", "suppressed", "explanation"),
)


def check_report(content: Any) -> dict[str, Any]:
    """Make sure that something read from a file is a report of this version.

    Raises:
        InputError: it is not; the message names the first thing that is wrong.
    """
    if not isinstance(content, dict):
        raise InputError(f"a contribution report is a JSON object; found {type(content).__name__}")
    if content.get("schema") != SCHEMA:
        raise InputError(f"the report has schema {content.get('schema')!r}; this release reads {SCHEMA}")
    for key, kind in _KEYS.items():
        if not isinstance(content.get(key), kind):
            raise InputError(f"the report's {key!r} must be {kind.__name__}; found {type(content.get(key)).__name__}")
    cards = content.get("cards", {})
    if not isinstance(cards, dict) or not all(isinstance(text, str) for text in cards.values()):
        raise InputError("the report's 'cards' must be texts by the names of components")
    for number, cell in enumerate(content["cells"]):
        missing = [key for key in _CELL_KEYS if not isinstance(cell, dict) or key not in cell]
        if missing:
            raise InputError(f"cell {number} of the report lacks {', '.join(missing)}")
        if cell["component"] not in COMPONENTS or cell["position"] not in content["positions"]:
            raise InputError(f"cell {number} is of {cell['component']!r} at position {cell['position']!r}, which the "
                             "report does not have")  # fmt: skip
    return content
