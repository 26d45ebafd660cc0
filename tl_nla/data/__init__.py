"""Documents from any source, split by their hash, and explained states captured from them."""

from tl_nla.data.documents import (
    Document,
    dataset_documents,
    jsonl_documents,
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
    "dataset_documents",
    "explain_states",
    "fit_grounding",
    "jsonl_documents",
    "split_documents",
    "text_file_documents",
    "world_documents",
]
