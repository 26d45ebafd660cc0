"""States of several layers of SmolLM2 at the same positions of corpus documents, which studies of it share."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.drawn import drawn_documents
from docs.studies.smollm2_nla.score import HeldOut, held_out
from tl_nla.data.progress import told
from tl_nla.model.reading import read
from tl_nla.model.text import TextEncoder

LONGEST, OWN = 96, 16
"""Tokens of a text that are read, and the layer of the NLA, whose rows carry the explanations."""


@dataclass(frozen=True)
class LayerStates:
    """Rows of held-out documents at several layers.

    Attributes:
        held: what the layer of the NLA has at these positions, with gold explanations and names of documents.
        acts: states by layer, float32.
        ids: tokens up to each position.
    """

    held: HeldOut
    acts: dict[int, Tensor]
    ids: list[list[int]]


def held_out_layers(
    smol: Any, corpus: Path, layers: Sequence[int], documents: int, positions: int, seed: int = 0
) -> LayerStates:
    """States of held-out documents.

    Args:
        smol: the model with its tokenizer.
        corpus: folder of ``make corpus``.
        layers: blocks whose outputs are read.
        documents: pieces of text.
        positions: of each.
        seed: of the draw of documents and positions.
    """
    held = held_out(smol.model, smol.tokenizer, OWN, corpus, documents, positions, seed)
    encode = TextEncoder(smol.tokenizer, smol.model)
    encoded = [list(encode(one.text).cut(LONGEST).ids) for one in held.documents]
    rows = list(zip(held.states.document.tolist(), held.states.position.tolist(), strict=True))
    places = [[place for row, place in rows if row == number] for number in range(len(encoded))]
    acts = _read_layers(smol.model, encoded, places, layers)
    return LayerStates(held, acts, [encoded[row][: place + 1] for row, place in rows])


@dataclass(frozen=True)
class DrawnStates:
    """Rows of documents at several layers, without explanations.

    Attributes:
        acts: states by layer, float32.
        last: the token at each position.
        following: the token that follows it in the text.
        contexts: the last eight tokens up to each position, as text.
        names: of the documents.
    """

    acts: dict[int, Tensor]
    last: Tensor
    following: Tensor
    contexts: list[str]
    names: list[str]


def drawn_layers(
    smol: Any, corpus: Path, layers: Sequence[int], documents: int, positions: int, part: str = "train", seed: int = 0
) -> DrawnStates:
    """States of documents of one side of the corpus; positions are drawn, the first token is left out."""
    encode = TextEncoder(smol.tokenizer, smol.model)
    chosen = drawn_documents(corpus / f"{part}.jsonl", documents, seed)
    encoded = [list(encode(one.text).cut(LONGEST).ids) for one in chosen]
    rng = random.Random(seed)
    places = [sorted(rng.sample(range(1, len(ids) - 1), min(positions, len(ids) - 2))) if len(ids) > 2 else []
              for ids in encoded]  # fmt: skip
    rows = [(number, place) for number, own in enumerate(places) for place in own]
    last, following = (torch.tensor([encoded[number][place + step] for number, place in rows]) for step in (0, 1))
    contexts = [smol.tokenizer.decode(encoded[number][max(1, place - 7) : place + 1]) for number, place in rows]
    names = [str(chosen[number].notes["document"]) for number, _ in rows]
    return DrawnStates(_read_layers(smol.model, encoded, places, layers), last, following, contexts, names)


@torch.no_grad()
def _read_layers(
    model: Any, encoded: list[list[int]], places: list[list[int]], layers: Sequence[int]
) -> dict[int, Tensor]:
    sites = {layer: f"blocks.{layer}.hook_resid_post" for layer in layers}
    found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    asked = [number for number in range(len(encoded)) if places[number]]
    for (number,) in told([[number] for number in asked], "reading layers"):
        ids = encoded[number][: places[number][-1] + 1]
        reading = read(model, torch.tensor([ids]), list(sites.values()), places[number])
        for layer, site in sites.items():
            found[layer].append(reading[site].float())
    return {layer: torch.cat(parts) for layer, parts in found.items()}
