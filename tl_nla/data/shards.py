"""Captured states on the disk: one safetensors file for a run of documents, and an index of all of them.

A file is whole or not there. Its name is the number of the run of documents that it holds, no matter which process
wrote it. So a capture that was killed goes on with any number of processes and ends in the same files.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.outputs import check_folder

SETTINGS, INDEX, MEAN = "capture.json", "index.json", "mean.safetensors"


@dataclass(frozen=True)
class Texts:
    """Texts as one run of UTF-8 bytes, so that a shard needs no Python object a row."""

    data: UInt8[Tensor, " bytes"]
    ends: Int[Tensor, " n"]

    @classmethod
    def pack(cls, texts: list[str]) -> "Texts":
        """Pack texts; characters that UTF-8 does not know are kept by surrogates."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        lengths = torch.tensor([len(text) for text in encoded], dtype=torch.long)
        return cls(torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy()), lengths.cumsum(0))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> str:
        start = int(self.ends[row - 1]) if row else 0
        return self.data[start : int(self.ends[row])].numpy().tobytes().decode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Shard:
    """Rows of one run of documents: first those to train on, then the held-out ones.

    Attributes:
        acts: the states.
        explanations: the text written for each.
        contexts: the last tokens of the raw text, as many as the explanation has.
        document: number of each row's document in the source.
        position: token position of each row, the begin token at 0.
        train: how many rows are to train on.
    """

    acts: Float[Tensor, "n d_model"]
    explanations: Texts
    contexts: Texts
    document: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    train: int

    def __len__(self) -> int:
        return len(self.acts)


def shard_path(folder: Path, number: int) -> Path:
    """File of a run of documents."""
    return folder / f"shard-{number:06d}.safetensors"


def write_shard(folder: Path, number: int, shard: Shard) -> Path:
    """Write a shard; until it is wholly on the disk there is no file of that name.

    Raises:
        InputError: when it cannot be written, such as on a full disk, or states are not finite, such as those of large
            norm in float16.
    """
    bad = int((~torch.isfinite(shard.acts).all(-1)).sum())
    if bad:
        raise InputError(
            f"{bad} of {len(shard)} states hold NaN or infinite values in {shard.acts.dtype}; capture in float32 or "
            "bfloat16, and check the model's precision"
        )
    tensors = {
        "acts": shard.acts.contiguous(), "document": shard.document, "position": shard.position,
        "explanations.data": shard.explanations.data, "explanations.ends": shard.explanations.ends,
        "contexts.data": shard.contexts.data, "contexts.ends": shard.contexts.ends,
        "sum": normalise(shard.acts[: shard.train].double()).sum(0),
    }  # fmt: skip
    path = shard_path(folder, number)
    save_whole(path, tensors, json.dumps({"rows": len(shard), "train": shard.train}))
    return path


def save_whole(path: Path, tensors: dict[str, Tensor], about: str) -> None:
    """Write tensors and a note about them; until they are wholly on the disk there is no file of that name.

    Raises:
        InputError: when it cannot be written.
    """
    # One key: safetensors writes several in random order, and equal rows shall be equal bytes.
    _whole(path, lambda part: save_file(tensors, part, {"shard": about}))


def read_shard(path: Path) -> Shard:
    """All rows of a shard.

    Raises:
        InputError: when it is missing or damaged.
    """
    about = shard_size(path)
    found = load_file(path)
    texts = {name: Texts(found[f"{name}.data"], found[f"{name}.ends"]) for name in ("explanations", "contexts")}
    return Shard(found["acts"], **texts, document=found["document"], position=found["position"], train=about[1])


def shard_size(path: Path) -> tuple[int, int]:
    """Rows of a shard and how many of them are to train on, from its header.

    Raises:
        InputError: when it is missing or not whole.
    """
    about = shard_about(path)
    return int(about["rows"]), int(about["train"])


def shard_about(path: Path) -> dict[str, Any]:
    """What a shard's header says of it.

    Raises:
        InputError: when it is missing or not whole.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})["shard"])
            return {**about, "rows": int(about["rows"]), "train": int(about["train"])}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no whole shard ({error}); delete it and run the capture again") from error


def is_whole(path: Path) -> bool:
    """Whether the file is there and as long as its header says."""
    try:
        return path.is_file() and bool(shard_size(path))
    except InputError:
        return False


def begin_capture(folder: Path, settings: dict[str, Any]) -> None:
    """Write what is captured, or check that a capture that goes on is the same.

    Raises:
        InputError: when the folder holds a capture with other settings, or cannot be written to.
    """
    path = check_folder(folder) / SETTINGS
    if path.is_file():
        found = _json(path)
        for name in sorted({*found, *settings}):
            if found.get(name) != settings.get(name):
                raise InputError(
                    f"{folder} holds a capture with {name} {found.get(name)!r}, this one has {settings.get(name)!r}; "
                    "give another folder"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(path, settings)


def finish_capture(folder: Path, shards: int) -> dict[str, Any]:
    """Write the index and the mean of the normalised rows to train on; the capture can be served from then on.

    Raises:
        InputError: when a shard is missing or damaged, or one side of the split is empty.
    """
    files: list[dict[str, Any]] = []
    total: Tensor | None = None
    for number in range(shards):
        path = shard_path(folder, number)
        rows, train = shard_size(path)
        files.append({"file": path.name, "rows": rows, "train": train})
        with safe_open(path, framework="pt") as opened:
            part = opened.get_tensor("sum")
        total = part if total is None else total + part
    rows, train = sum(file["rows"] for file in files), sum(file["train"] for file in files)
    if total is None or not 0 < train < rows:
        raise InputError(f"{train} rows to train on and {rows - train} held out in {folder}; give more documents")
    mean = (total / train).float()
    _whole(folder / MEAN, lambda part: save_file({"mean": mean}, part))
    index = {"rows": rows, "train": train, "d_model": len(mean), "shards": files}
    _write_json(folder / INDEX, index)
    return index


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a finished capture.

    Raises:
        InputError: when there is none.
    """
    if not (folder / INDEX).is_file():
        found = len(list(folder.glob("shard-*.safetensors")))
        begun = "is not finished: run the same capture again" if (folder / SETTINGS).is_file() else "is no capture"
        raise InputError(f"{str(folder)!r} {begun} ({found} shards, no {INDEX})")
    return _json(folder / INDEX)


def read_settings(folder: Path) -> dict[str, Any]:
    """What was captured, as :func:`begin_capture` wrote it; nothing where it did not."""
    return _json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}


def read_mean(folder: Path) -> Float[Tensor, " d_model"]:
    """Mean of the normalised rows to train on: the zero of every FVE."""
    return load_file(folder / MEAN)["mean"]


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _whole(path, lambda part: part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8"))


def _whole(path: Path, write: Any) -> None:
    """Write beside the place and move into it in one step."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink(missing_ok=True)
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise InputError(f"cannot write {str(path)!r}: {error}; what was written before is untouched") from error
