"""Suite ``nla``: do the words of an NLA carry the state, and are they true?"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from docs.studies.nla.score import NLARows, load_rows, score_nla
from tl_nla.benchmark.bootstrap import fve_interval, mean_interval, ratio_interval
from tl_nla.benchmark.results import Results, Row
from tl_nla.data import ExplainedStates
from tl_nla.errors import InputError
from tl_nla.storyworld.claims import CLAIM_TYPES
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explained import WorldCapture, explain_states
from tl_nla.storyworld.tiny import embedded_grounding

HELD_DOCUMENTS, HELD_POSITIONS, MIN_POSITION = 150, 6, 5
STORED_ROWS = Path(__file__).parent / "rows" / "nla_rows.safetensors"
DEFINITION = {
    "fve": "1 - sum|p-g|^2 / sum|g-m|^2; p, g L2-normalised to sqrt(d_model), m the training set's mean of normalised "
    "states; an explanation that could not be extracted costs 2 d_model",
    "site": "blocks.2.hook_resid_post",
    "heldout": f"{HELD_DOCUMENTS} stories of stream {HELD_OUT_SEED}, which no training reads; {HELD_POSITIONS} "
    f"positions each, from position {MIN_POSITION}",
    "intervals": "95%, bootstrap over documents and seeds",
    "cat": "the last tokens of the raw text, as many as the gold explanation has, read by a reconstructor with the "
    "same start, rows, steps and learning rate",
    "gold": "recent words, the model's own prediction, and the facts of the text so far that linear probes find in "
    "the state with probability >= .3 (the same rule that wrote the training texts)",
    "probe": "multinomial logistic regression from the state, asked where the fact is known; claim_precision is its "
    "accuracy",
    "shuffled": "each explanation paired with a state of another document",
}


def held_out_states(model: object, tokenizer: object, point: str) -> ExplainedStates:
    """The states every arm of the suite is scored on."""
    documents = world_documents(HELD_DOCUMENTS, HELD_OUT_SEED)
    grounding = embedded_grounding()
    return explain_states(
        model, tokenizer, documents, point, HELD_POSITIONS, MIN_POSITION, WorldCapture(grounding=grounding)
    )


def training_states(model: object, tokenizer: object, point: str) -> ExplainedStates:
    """A sample of the training states, for the mean and the probes."""
    return explain_states(model, tokenizer, world_documents(3000, 0), point, 6)


def evaluate(model: str = "tiny") -> Results:
    """Run the suite on the embedded default.

    Args:
        model: ``"tiny"``; the truth of other models' texts is not known.

    Seed 0 is scored afresh with the shipped weights. The other seeds and the ``cat`` reader, whose training takes
    long, come from the stored row scores that ``python -m docs.studies tiny --parts nla`` writes.

    Raises:
        InputError: for another model, or when the embedded weights are missing.
    """
    from tl_nla.storyworld.tiny import load_tiny

    if model != "tiny":
        raise InputError(f"--model {model!r}: suite 'nla' knows the truth of the embedded world only; use --model tiny")
    started = time.perf_counter()
    tiny = load_tiny()
    point = f"blocks.{tiny.nla.layer}.hook_resid_post"
    held = held_out_states(tiny.model, tiny.tokenizer, point)
    fresh = score_nla(tiny.nla, training_states(tiny.model, tiny.tokenizer, point), held, 0)
    stored = load_rows(STORED_ROWS)
    for rows in stored:
        if rows.seed == 0 and "cat" in rows.errors:
            fresh.errors["cat"], fresh.cosines["cat"] = rows.errors["cat"], rows.cosines["cat"]
    everything = [fresh, *(rows for rows in stored if rows.seed != 0)]
    others = [rows.seed for rows in everything[1:]]
    definition = {
        **DEFINITION,
        "fresh": "seed 0, all arms but cat",
        "stored": f"cat of seed 0, all arms of seeds {others}",
    }
    return Results("nla", "tiny", [0, *others], definition, result_rows(everything), time.perf_counter() - started)


def result_rows(parts: Sequence[NLARows]) -> list[Row]:
    """Rows of the results contract from the row scores of all seeds."""
    rows: list[Row] = []
    for arm in parts[0].errors:
        having = [part for part in parts if arm in part.errors]
        documents, seeds = _places(having)
        errors = torch.cat([part.errors[arm].double() for part in having])
        deviations = torch.cat([part.deviation.double() for part in having])
        cosines = torch.cat([part.cosines[arm].double() for part in having])
        rows.append(Row.of(arm, "fve", fve_interval(errors, deviations, documents, seeds, generator=_generator())))
        rows.append(Row.of(arm, "cosine", mean_interval(cosines, documents, seeds, generator=_generator())))
        if arm in having[0].extracted:
            values = torch.cat([part.extracted[arm].double() for part in having])
            rate = mean_interval(values, documents, seeds, generator=_generator())
            rows.append(Row.of(arm, "extraction_rate", rate))
    return rows + claim_rows(parts)


def claim_rows(parts: Sequence[NLARows]) -> list[Row]:
    """Claim precision and recall of every arm and type, and over all types."""
    rows: list[Row] = []
    documents, seeds = _places(parts)
    for arm in parts[0].claims:
        table = torch.cat([part.claims[arm].double() for part in parts])
        typed = {f"/{kind}": table[:, place] for place, kind in enumerate(CLAIM_TYPES)}
        for suffix, counts in {"": table.sum(1), **typed}.items():
            said, true, expected, found = counts.unbind(1)
            for metric, top, bottom in (("claim_precision", true, said), ("claim_recall", found, expected)):
                if arm == "probe" and metric == "claim_recall":
                    continue
                if all(bottom[seeds == seed].sum() > 0 for seed in seeds.unique()):
                    interval = ratio_interval(top, bottom, documents, seeds, generator=_generator())
                    rows.append(Row.of(arm, metric + suffix, interval))
    return rows


def _places(parts: Sequence[NLARows]) -> tuple[Tensor, Tensor]:
    documents = torch.cat([part.document for part in parts])
    return documents, torch.cat([torch.full_like(part.document, part.seed) for part in parts])


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
