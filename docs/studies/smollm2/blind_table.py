"""The page's tables of what a blind reader can tell."""

from collections.abc import Sequence
from typing import Any

from docs.studies.smollm2.labels import PLAIN

_LAYERS = (0, 3, 9, 15, 21, 27, 29)
_SHOWN = 8
Row = dict[str, Any]


def as_markdown(rows: Sequence[Row]) -> str:
    """By label, task and control; by bands of layers; by layer; then the heads whose words mean something."""
    return "\n".join([*_by_label(rows), "", *_by_band(rows), "", *_by_layer(rows), "", *_by_head(rows)]) + "\n"


def _cell(row: Row | None, name: str = "") -> str:
    return "" if row is None else f"{row[name + 'value']:.2f} [{row[name + 'low']:.2f}, {row[name + 'high']:.2f}]"


def _by_label(rows: Sequence[Row]) -> list[str]:
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    lines = ["| writes | words | reader | task | " + " | ".join(variants) + " |", "|---" * (4 + len(variants)) + "|"]
    known = {(row["kind"], row["label"], row["reader"], row["task"], row["variant"]): row
             for row in rows if row["where"] == "all"}  # fmt: skip
    for kind, label, reader, task in dict.fromkeys(key[:4] for key in known):
        cells = [_cell(known.get((kind, label, reader, task, variant))) for variant in variants]
        lines.append(f"| {kind} | {label} | {reader} | {task} | " + " | ".join(cells) + " |")
    return lines


def _by_band(rows: Sequence[Row]) -> list[str]:
    """The reader of embeddings, layers put together; behind the stroke what is gained over the plain unembedding."""
    own = [row for row in rows if str(row["where"]).startswith("layers") and row["reader"] == "embeddings"
           and row["variant"] == "right" and row["task"] != "next word"]  # fmt: skip
    bands = list(dict.fromkeys(row["where"] for row in own))
    known = {(row["kind"], row["task"], row["label"], row["where"]): row for row in own}
    lines = ["| writes | task | words | " + " | ".join(bands) + " |", "|---" * (3 + len(bands)) + "|"]
    order = {name: place for place, name in enumerate(dict.fromkeys(key[0] for key in known))}
    for kind, task, label in sorted(dict.fromkeys(key[:3] for key in known), key=lambda key: (order[key[0]], key[1])):
        cells = []
        for band in bands:
            row = known.get((kind, task, label, band))
            gained = "" if row is None or label == PLAIN else f" / {_cell(row, 'plain_')}"
            cells.append(f"{_cell(row, 'above_' if task == 'effect' else '')}{gained}")
        lines.append(f"| {kind} | {task} | {label} | " + " | ".join(cells) + " |")
    return lines


def _by_layer(rows: Sequence[Row]) -> list[str]:
    lines = ["| words of heads | reader | " + " | ".join(f"layer {layer}" for layer in _LAYERS) + " |",
             "|---" * (2 + len(_LAYERS)) + "|"]  # fmt: skip
    own = [row for row in rows if row["kind"] == "head" and row["variant"] == "right" and row["task"] == "effect"]
    known = {(row["label"], row["reader"], row["where"]): row for row in own}
    for label, reader in dict.fromkeys(key[:2] for key in known):
        cells = [_cell(known.get((label, reader, layer)), "above_") for layer in _LAYERS]
        lines.append(f"| {label} | {reader} | " + " | ".join(cells) + " |")
    return lines


def _by_head(rows: Sequence[Row]) -> list[str]:
    lines = ["| reader | heads whose words mean something | the clearest |", "|---|---|---|"]
    for reader in dict.fromkeys(row["reader"] for row in rows):
        own = [row for row in rows if row["kind"] == "one head" and row["reader"] == reader
               and row["task"] == "effect" and "16" not in row["label"]]  # fmt: skip
        clear = sorted((row for row in own if row["above_low"] > 0), key=lambda row: -row["above_value"])
        names = ", ".join(f"{row['where']} {row['above_value']:.2f}" for row in clear[:_SHOWN])
        lines.append(f"| {reader} | {len(clear)} of {len(own)} | {names} |")
    return lines
