"""Suite ``layers_matrix``: an NLA at layers that it was not trained at, as it is and behind learned maps."""

import argparse
import time
from typing import Any

import torch
from torch import Tensor

from docs.studies.layers_matrix.score import STORED_ROWS, LayerStates, layer_states
from tl_nla.benchmark.arms import MAX_NEW_TOKENS
from tl_nla.benchmark.bootstrap import fve_interval, mean_interval
from tl_nla.benchmark.results import Results, Row
from tl_nla.benchmark.row_store import read_rows
from tl_nla.cli.options import whole_number
from tl_nla.errors import InputError
from tl_nla.metrics import normalise, squared_deviations, squared_errors
from tl_nla.nla import NLA
from tl_nla.nla.adaptation import adapt
from tl_nla.storyworld.corpus import HELD_OUT_SEED

DEFINITION = {
    "fve": "1 - sum|p-g|^2 / sum|g-m|^2 at the row's layer; p, g L2-normalised to sqrt(d_model), m the mean of "
    "normalised training states of that layer; an explanation that could not be extracted costs 2 d_model",
    "layer": "K', the block whose output is explained; metric fve is of the embedded NLA (K = 2), made now",
    "fve/trained_at_K": "the whole matrix, from stored rows: a pair of layer K, which is the shipped one after more "
    "warm start on the states of K",
    "fve/trained_at_K_reinforced": "the shipped pair after reinforcement learning on states of K', no maps",
    "warm_start": "before: states of K' straight into the NLA of K, its reconstruction compared with the state of K'",
    "explanation": "after: a ridge map K' to K in front of the verbalizer, and one K to K' behind the reconstructor, "
    "both from training stories; no weight of the NLA is touched",
    "gold": "the ceiling of the maps: K' to K to K' without any words",
    "intervals": "95%, bootstrap over documents; of stored rows over seeds of the training, too",
    "command": "python -m docs.studies.layers_matrix.train",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the suite."""
    parser.add_argument("--documents", type=whole_number(1), default=60, help="held-out stories, 6 positions each")
    parser.add_argument(
        "--train-documents", type=whole_number(1), default=400, help="stories that the maps are fitted on"
    )


def evaluate(model: str = "tiny", documents: int = 60, train_documents: int = 400) -> Results:
    """Score the embedded NLA at every layer of the embedded target.

    Args:
        model: ``"tiny"``.
        documents: held-out stories.
        train_documents: stories for the maps and the means.

    Raises:
        InputError: for another model.
    """
    from tl_nla.storyworld.tiny import load_tiny

    if model != "tiny":
        raise InputError(f"--model {model!r}: suite 'layers_matrix' knows the embedded NLA only; use --model tiny")
    started = time.perf_counter()
    tiny = load_tiny()
    layers = range(int(tiny.model.cfg.n_layers))
    train = layer_states(tiny.model, tiny.tokenizer, layers, train_documents, 0)
    held = layer_states(tiny.model, tiny.tokenizer, layers, documents, HELD_OUT_SEED)
    rows = [row for layer in layers for row in layer_rows(tiny.nla, train, held, layer)] + stored_rows()
    sizes = {"heldout": f"{documents} stories of stream {HELD_OUT_SEED}", "maps": f"{train_documents} training stories"}
    return Results("layers_matrix", "tiny", [0], {**DEFINITION, **sizes}, rows, time.perf_counter() - started)


def layer_rows(nla: NLA, train: LayerStates, held: LayerStates, layer: int) -> list[Row]:
    """Before and after the maps, at one layer."""
    there = held.acts[layer]
    adapted = adapt(nla, train.acts[layer], train.acts[nla.layer], layer)
    mean = normalise(train.acts[layer]).double().mean(0).float()
    deviations = squared_deviations(there, mean)
    rows: list[Row] = []

    def add(arm: str, preds: Tensor, failed: Tensor | None) -> None:
        errors = squared_errors(preds, there, failed)
        interval = fve_interval(errors, deviations, held.document, generator=torch.Generator().manual_seed(0))
        rows.append(Row.of(arm, "fve", interval, layer=layer))

    pairs: dict[str, Any] = {"warm_start": nla, "explanation": adapted}
    for arm, pair in pairs.items():
        found = pair.generate(there, max_new_tokens=MAX_NEW_TOKENS)
        texts = [text if ok else "" for text, ok in zip(found.texts, found.extracted, strict=True)]
        add(arm, pair.reconstruct(texts), ~found.extracted)
        rate = mean_interval(found.extracted.double(), held.document, generator=torch.Generator().manual_seed(0))
        rows.append(Row.of(arm, "extraction_rate", rate, layer=layer))
    add("gold", adapted.back(adapted.front(there)), None)
    return rows


def stored_rows() -> list[Row]:
    """The matrix of layers from stored scores; nothing when there are none."""
    known, _ = read_rows(STORED_ROWS)
    rows = []
    for name in sorted({name.rsplit("/", 1)[0] for name in known if name.startswith("errors/")}):
        _, trained, layer, how = name.split("/")
        seeds = sorted(int(one.rsplit("/", 1)[1]) for one in known if one.startswith(f"{name}/"))
        errors, deviations = (
            torch.cat([known[f"{part}/{seed}"] for seed in seeds]).double() for part in (name, f"deviation/{layer}")
        )
        documents = known["document"]
        interval = fve_interval(
            errors, deviations, documents.repeat(len(seeds)), torch.tensor(seeds).repeat_interleave(len(documents)),
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        metric = f"fve/trained_at_{trained}" + ("_reinforced" if how == "reinforced" else "")
        arm = "warm_start" if how == "warm_start" else "explanation"
        rows.append(Row.of(arm, metric, interval, layer=int(layer)))
    return rows
