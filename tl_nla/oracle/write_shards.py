"""Captured writes on the disk: one safetensors file for a run of documents, the state before stored once a layer.

All heads of a layer are added to the same state. A file holds that state once for each position, and each write the
number of its state. Files are written whole or not at all, so that a capture that was killed goes on.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tl_nla.data import Document
from tl_nla.data.progress import listening, told
from tl_nla.data.shards import Texts, begin_capture, is_whole, save_whole, shard_about, shard_path
from tl_nla.data.sharing import own_share
from tl_nla.errors import InputError
from tl_nla.model.reading import state_before
from tl_nla.model.sites import Site
from tl_nla.model.text import TextEncoder
from tl_nla.oracle.capture import CaptureConfig, LabelledWrites, capture_writes, joined_texts
from tl_nla.oracle.explained_writes import explained_places
from tl_nla.oracle.labels import Vocabulary
from tl_nla.oracle.questions import Answer
from tl_nla.oracle.texts import Label

DOCUMENTS = 64
_LISTS = ("promoted", "suppressed", "sources", "rest", "tokens", "local", "weaker")


def kept_writes(
    folder: Path, model: Any, tokenizer: Any, documents: Sequence[Document], sites: Sequence[str],
    config: CaptureConfig, vocabulary: Vocabulary | None = None,
) -> LabelledWrites:  # fmt: skip
    """The writes of :func:`tl_nla.oracle.capture_writes`, kept in a folder: what is there is read, the rest captured.

    Args: as of :func:`keep_writes`, whose shards are all read at once.

    Example:
        >>> writes = kept_writes(Path("runs/writes"), model, tokenizer, documents, ["blocks.0.mlp"], CaptureConfig())
    """
    paths = keep_writes(folder, model, tokenizer, documents, sites, config, vocabulary)
    return _joined([read_writes(path) for path in paths])


def keep_writes(
    folder: Path, model: Any, tokenizer: Any, documents: Sequence[Document], sites: Sequence[str],
    config: CaptureConfig, vocabulary: Vocabulary | None = None,
) -> list[Path]:  # fmt: skip
    """Capture writes into a folder, a shard at a time, so that memory does not grow with the documents.

    Several processes capture a share each (:func:`tl_nla.data.sharing.sharing`).

    Args:
        folder: of the shards; one with other settings or documents is refused.
        model: the TransformerLens model.
        tokenizer: its tokenizer.
        documents: the texts.
        sites: the writes.
        config: what is captured.
        vocabulary: the tokens that labels may name.

    Returns:
        The files of all shards, those that were there among them.

    Raises:
        InputError: as of ``capture_writes``; when the folder holds another capture, or a file is damaged.
    """
    allowed = () if vocabulary is None else torch.nonzero(vocabulary.allowed).flatten().tolist()
    read = json.dumps([[document.id, document.text, str(dict(document.notes))] for document in documents]) + json.dumps(
        allowed
    )
    settings = {"writes": list(map(str, sites)), "documents": hashlib.sha256(read.encode()).hexdigest()[:16],
                "config": str(config), "documents_per_shard": DOCUMENTS, **_explained(config)}  # fmt: skip
    share = own_share()
    if share.number == 0:
        begin_capture(folder, settings)
    share.wait()
    points = {str(site): state_before(model, Site.parse(site), model.hook_dict) for site in sites}
    encode = TextEncoder(tokenizer, model, config.prepend_bos)
    context = int(model.cfg.n_ctx)
    long = [number for number, document in enumerate(documents)
            if explained_places(config.explainer, document, encode(document.text).cut(context))]  # fmt: skip
    if not long:
        raise InputError("no document has two tokens; give longer texts")
    runs = [long[first : first + DOCUMENTS] for first in range(0, len(long), DOCUMENTS)]
    paths = [shard_path(folder, number) for number in range(len(runs))]
    for number, run in enumerate(told(runs, "capturing writes")):
        path = paths[number]
        if share.has(number) and not is_whole(path):
            own = [documents[row] for row in run]
            with listening(None):
                found = capture_writes(model, tokenizer, own, sites, config, vocabulary)
            write_writes(path, replace(found, document=torch.tensor(run)[found.document]), points)
    share.wait()
    return paths


def sampled_writes(paths: Sequence[Path], most: int) -> LabelledWrites:
    """Every so many-th write of all shards, of which one is in memory at a time.

    Raises:
        InputError: when a shard is missing or damaged.
    """
    step = max(1, -(-sum(int(shard_about(path)["rows"]) for path in paths) // most))
    parts, first = [], 0
    for path in paths:
        writes = read_writes(path)
        parts.append(writes.select(torch.arange(first, len(writes), step)))
        first = (first - len(writes)) % step
    return _joined(parts)


def write_writes(path: Path, writes: LabelledWrites, points: dict[str, str]) -> None:
    """Write a shard.

    Args:
        path: of the file.
        writes: with their labels.
        points: for each site the hook point of the state before it; sites of one point share their states.

    Raises:
        InputError: when writes are not finite, or it cannot be written.
    """
    if not bool(torch.isfinite(writes.write).all()):
        raise InputError("writes hold NaN or infinite values; load the model in float32 or bfloat16")
    numbers = {point: number for number, point in enumerate(dict.fromkeys(points.values()))}
    point = torch.tensor([numbers[points[site]] for site in writes.sites])[writes.site]
    place = torch.stack([writes.document, writes.position, point], 1)
    known, row = torch.unique(place, dim=0, return_inverse=True)
    first = torch.full((len(known),), len(writes)).scatter_reduce_(0, row, torch.arange(len(writes)), "amin")
    own = [None] * len(writes) if writes.texts is None else writes.texts
    told_as = [json.dumps([_plain(label), {name: _plain(answer) for name, answer in answers.items()}, text])
               for label, answers, text in zip(writes.labels, writes.answers, own, strict=True)]  # fmt: skip
    texts = Texts.pack(told_as)
    tensors = {"state": writes.before[first].contiguous(), "row": row, "write": writes.write.contiguous(),
               "site": writes.site, "document": writes.document, "position": writes.position,
               "labels.data": texts.data, "labels.ends": texts.ends}  # fmt: skip
    about = json.dumps({"rows": len(writes), "train": len(writes), "sites": list(writes.sites)})
    save_whole(path, tensors, about)


def read_writes(path: Path) -> LabelledWrites:
    """All writes of a shard.

    Raises:
        InputError: when it is missing or damaged.
    """
    about, found = shard_about(path), load_file(path)
    texts = Texts(found["labels.data"], found["labels.ends"])
    rows = [json.loads(texts[row]) for row in range(len(texts))]
    return LabelledWrites(
        found["state"][found["row"]], found["write"], [Label(**_tuples(label)) for label, *_ in rows],
        [{name: Answer(**_tuples(answer)) for name, answer in answers.items()} for _, answers, *_ in rows],
        tuple(about["sites"]), found["site"], found["document"], found["position"],
        [row[2] for row in rows] if rows and rows[0][2] is not None else None,
    )  # fmt: skip


def _explained(config: CaptureConfig) -> dict[str, str]:
    named = config.explainer
    return {} if named is None else {"explainer": getattr(named, "__qualname__", type(named).__name__)}


def _joined(parts: list[LabelledWrites]) -> LabelledWrites:
    named: dict[str, Tensor] = {name: torch.cat([getattr(part, name) for part in parts])
                                for name in ("before", "write", "site", "document", "position")}  # fmt: skip
    return LabelledWrites(labels=[label for part in parts for label in part.labels],
                          answers=[answer for part in parts for answer in part.answers], sites=parts[0].sites,
                          texts=joined_texts(parts), **named)  # fmt: skip


def _plain(told_as: Label | Answer) -> dict[str, Any]:
    return {name: value for name, value in asdict(told_as).items() if value not in (None, ()) or name in _LISTS}


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
