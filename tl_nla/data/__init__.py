"""Documents from any source, split by their hash, and explained states captured from them."""

from tl_nla._lazy import lazy
from tl_nla.data.documents import (
    Document,
    check_source,
    dataset_documents,
    jsonl_documents,
    load_documents,
    split_documents,
    text_file_documents,
    world_documents,
)
from tl_nla.data.explained import ExplainedStates, explain_states
from tl_nla.data.grounding import Grounding, fit_grounding

__all__ = [
    "Document",
    "ExplainedStates",
    "Grounding",
    "check_source",
    "dataset_documents",
    "explain_states",
    "fit_grounding",
    "jsonl_documents",
    "load_documents",
    "split_documents",
    "text_file_documents",
    "world_documents",
]

__getattr__ = lazy(__name__)
