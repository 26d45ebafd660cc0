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
)
from tl_nla.data.explained import ExplainedStates

__all__ = [
    "Document",
    "ExplainedStates",
    "check_source",
    "dataset_documents",
    "jsonl_documents",
    "load_documents",
    "split_documents",
    "text_file_documents",
]

__getattr__ = lazy(__name__)
