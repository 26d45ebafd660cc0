"""Suite ``injection``: how a vector should enter the verbalizer, from stored runs that differ in nothing else."""

import time
from pathlib import Path

import torch

from tl_nla.benchmark.bootstrap import fve_interval, mean_interval
from tl_nla.benchmark.results import INJECTION_ARMS, Results, Row
from tl_nla.benchmark.row_store import read_rows
from tl_nla.errors import InputError

STORED = Path(__file__).parent / "rows"
DEFINITION = {
    "fve": "1 - sum|p-g|^2 / sum|g-m|^2; p, g L2-normalised to sqrt(d_model), m the training set's mean of normalised "
    "states; an explanation that could not be extracted costs 2 d_model",
    "arms": "KIND or KIND/3_slots; constant_F injects at F times the mean norm of the token embeddings, affine is a "
    "learned map that starts as constant_1, additive adds at the norm of what stands there after the second block",
    "training": "verbalizers warm-started alike (rows, order, steps, rate); all read by the shipped reconstructor",
    "intervals": "95%, bootstrap over documents, and over seeds where there are several; n counts documents",
    "command": "python -m docs.studies.injection.train --seed SEED",
}


def evaluate(model: str = "tiny") -> Results:
    """Score the stored runs.

    Args:
        model: ``"tiny"``; runs are stored for the embedded default only.

    Raises:
        InputError: for another model, or when no run is stored.
    """
    if model != "tiny":
        raise InputError(f"--model {model!r}: suite 'injection' has runs of the embedded default; use --model tiny")
    started = time.perf_counter()
    paths = sorted(STORED.glob("injection_rows_*.safetensors"))
    if not paths:
        raise InputError("no stored runs of suite 'injection'; make one: python -m docs.studies.injection.train")
    parts = {int(path.stem.rsplit("_", 1)[1]): read_rows(path)[0] for path in paths}
    rows = [row for arm in INJECTION_ARMS for row in arm_rows(arm, parts)]
    steps = {seed: int(part["steps"]) for seed, part in parts.items()}
    definition = {**DEFINITION, "stored": f"every row, of seeds {list(parts)}", "steps": steps}
    return Results("injection", "tiny", list(parts), definition, rows, time.perf_counter() - started)


def arm_rows(arm: str, parts: dict[int, dict[str, torch.Tensor]]) -> list[Row]:
    """FVE and extraction rate of one arm over the seeds that have it."""
    having = {seed: part for seed, part in parts.items() if f"errors/{arm}" in part}
    if not having:
        return []
    documents = torch.cat([part["document"].long() for part in having.values()])
    seeds = torch.cat([torch.full_like(part["document"].long(), seed) for seed, part in having.items()])
    errors = torch.cat([part[f"errors/{arm}"].double() for part in having.values()])
    deviations = torch.cat([part["deviation"].double() for part in having.values()])
    extracted = torch.cat([part[f"extracted/{arm}"].double() for part in having.values()])
    found = fve_interval(errors, deviations, documents, seeds, generator=torch.Generator().manual_seed(0))
    rate = mean_interval(extracted, documents, seeds, generator=torch.Generator().manual_seed(0))
    return [Row.of(arm, "fve", found), Row.of(arm, "extraction_rate", rate)]
