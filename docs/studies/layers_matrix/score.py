"""Row scores of pairs at layers that they were not trained at; stored as sums over stories."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from docs.studies.nla.run import MIN_POSITION
from docs.studies.training.score import document_sums
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.benchmark.row_store import read_rows, write_rows
from tl_nla.metrics import normalise, squared_deviations, squared_errors
from tl_nla.model.sites import Site
from tl_nla.model.text import TextEncoder
from tl_nla.storyworld.documents import world_documents

STORED_ROWS = Path(__file__).parent / "rows" / "layers_matrix_rows.safetensors"


@dataclass(frozen=True)
class LayerStates:
    """States of all layers at the same tokens.

    Attributes:
        acts: layer -> states.
        document: of each row.
    """

    acts: dict[int, Tensor]
    document: Tensor


@torch.no_grad()
def layer_states(model: Any, tokenizer: Any, layers: range, documents: int, seed: int) -> LayerStates:
    """Outputs of blocks at six drawn positions of each story, the same for all layers."""
    from tl_nla.model.reading import read

    chooser, encode = torch.Generator().manual_seed(0), TextEncoder(tokenizer, model)
    sites = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    acts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    places: list[int] = []
    for number, document in enumerate(world_documents(documents, seed)):
        ids = encode(document.text).cut(int(model.cfg.n_ctx)).ids
        drawn = torch.randperm(len(ids) - MIN_POSITION, generator=chooser)[:6].sort().values + MIN_POSITION
        reading = read(model, torch.tensor([ids]), sites, positions=drawn.tolist())
        for layer, site in zip(layers, sites, strict=True):
            acts[layer].append(reading[Site.parse(site)].float())
        places += [number] * len(drawn)
    return LayerStates({layer: torch.cat(parts) for layer, parts in acts.items()}, torch.tensor(places))


def add_scores(
    path: Path, name: str, pair: Any, train: LayerStates, held: LayerStates, layer: int, seed: int = 0
) -> None:
    """Score one pair at one layer and add it to the file.

    Args:
        path: safetensors file; made when it is not there.
        name: ``TRAINED/LAYER/HOW``: the pair's layer, ``layer``, and ``warm_start``, ``explanation`` or ``reinforced``.
        pair: an NLA, or an adapted one.
        train: training states, for the mean.
        held: held-out states.
        layer: whose states are explained.
        seed: of the pair's training and of its stories.
    """
    there, document = held.acts[layer], held.document
    found = pair.generate(there, max_new_tokens=MAX_NEW_TOKENS)
    texts = [text if ok else "" for text, ok in zip(found.texts, found.extracted, strict=True)]
    errors = squared_errors(pair.reconstruct(texts), there, ~found.extracted)
    mean = normalise(train.acts[layer]).double().mean(0).float()
    named, _ = read_rows(path)
    named["document"] = document.unique()
    named[f"deviation/{layer}/{seed}"] = document_sums(squared_deviations(there, mean), document).float()
    named[f"errors/{name}/{seed}"] = document_sums(errors, document).float()
    write_rows(path, named)
