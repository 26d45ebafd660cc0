"""A diff oracle trained now on a model of the user's, with the readers of its controls, and scored."""

from dataclasses import replace
from pathlib import Path

from lightning_modules.data.oracle_data import SMALL
from lightning_modules.training.rebuild_oracle import build_oracle
from tl_nla.benchmark.oracle_suite import ScoredOracles
from tl_nla.data import Document, jsonl_documents, load_documents, split_documents, text_file_documents
from tl_nla.data.lines import JSON_SUFFIXES
from tl_nla.errors import InputError
from tl_nla.model.targets import load_target, model_folder


def train_and_score(
    model: str, oracle: Path | None = None, texts: str | None = None, documents: int | None = None,
    steps: int | None = None, precision: str | None = None, prepend_bos: bool | None = None,
    injection_char: str | None = None,
) -> ScoredOracles:  # fmt: skip
    """Train an oracle and the readers of its controls, and score them all.

    Args:
        model: an embedded model's name, a local folder or a hub id.
        oracle: folder in which the oracle is saved.
        texts: text or JSON-lines file; stories when ``None``.
        documents: how many are trained on.
        steps: of every part.
        precision: of matrix products: ``"highest"`` (default), ``"high"`` or ``"medium"``.
        prepend_bos: see :func:`tl_nla.model.targets.load_target`.
        injection_char: the oracle's marker; one is chosen, or added, when ``None``.

    Raises:
        InputError: for numbers below one, or texts too few.
    """
    for name, value in (("--documents", documents), ("--steps", steps)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; at least 1 is needed")
    config = replace(SMALL, precision=precision or "highest", injection_char=injection_char)
    if steps is not None:
        config = replace(config, steps=steps, reader_steps=steps)
    train, held = _documents(texts, documents or config.documents, config.held_documents)
    config = replace(config, skip_documents=max(1, min(config.skip_documents, len(train) // 3)))
    built, rows = build_oracle(load_target(model, prepend_bos), model_folder(model), train, held, config, 0)
    if oracle is not None:
        built.save_pretrained(oracle)
    source = f"an oracle trained now: {config.reader_steps} reader steps, {config.steps} steps of each reconstructor"
    return ScoredOracles(model, [rows], source)


def _documents(texts: str | None, count: int, most: int) -> tuple[list[Document], list[Document]]:
    """Training and held-out documents."""
    if texts is None:
        return load_documents("world", count, 0), load_documents("world", max(4, min(most, count // 4)), 1)
    read = jsonl_documents if texts.endswith(JSON_SUFFIXES) else text_file_documents
    train, held = split_documents(read(texts, limit=count), 0.15)
    if len(held[:most]) < 2 or not train:
        raise InputError(f"{texts} gives {len(train)} documents to train on and {len(held)} held out; give more")
    return train, held[:most]
