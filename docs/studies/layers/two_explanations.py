"""The baseline of two explanations on the embedded default: explain the states before and after, take the difference.

The embedded NLA reads the state after block 2, so only writes of block 2 can be read this way. The state before it is
one block away from what the NLA was trained on, which is part of what is wrong with the baseline.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.benchmark.bootstrap import fve_interval, mean_interval
from tl_nla.benchmark.oracle_suite import generator
from tl_nla.benchmark.results import Row
from tl_nla.data import Document
from tl_nla.metrics import squared_deviations, squared_errors
from tl_nla.oracle.capture import CaptureConfig, LabelledWrites, capture_writes
from tl_nla.oracle.two_explanations import TwoExplanations, explain_twice
from tl_nla.storyworld.corpus import HELD_OUT_SEED
from tl_nla.storyworld.documents import world_documents

LAYER = 2
SITES = {"block": f"blocks.{LAYER}", "attn": f"blocks.{LAYER}.attn", "mlp": f"blocks.{LAYER}.mlp"}
DEFINITION = {
    "two_explanations": "the state NLA explains the states before and after the write, greedy; the difference of the "
    "two states read back, each at its true norm, against the write. Block 2 only, where the embedded NLA reads",
    "sampled": "the same with both explanations sampled at temperature 1",
    "unchanged_rate": "share of pairs that a differ of clauses calls unchanged; same_twice: the same state twice, "
    "greedy (1 by construction); sampled: the same state twice, sampled",
}


def two_explanations_rows(
    nla: Any, model: Any, tokenizer: Any, mean: Float[Tensor, " d_model"], documents: int = 100,
) -> list[Row]:  # fmt: skip
    """Rows of the baseline: FVE of the write by kind, and how often pairs are called unchanged.

    Args:
        nla: the embedded NLA.
        model: the embedded target.
        tokenizer: its tokenizer.
        mean: of the normalised training writes, the zero of FVE.
        documents: held-out stories, one position each.
    """
    stories: list[Document] = world_documents(documents, HELD_OUT_SEED)
    config = CaptureConfig(1, 1, skips=False)
    writes = capture_writes(model, tokenizer, stories, list(SITES.values()), config)
    rows: list[Row] = []
    for arm, temperature in (("two_explanations", 0.0), ("sampled", 1.0)):
        draws = torch.Generator().manual_seed(0)
        told = explain_twice(nla, writes.before, writes.before + writes.write, None, temperature, draws)
        rows += _fve_rows(arm, told, nla, writes, mean)
        if temperature == 0.0:
            rows.append(_unchanged(arm, told, writes))
    for arm, temperature in (("same_twice", 0.0), ("sampled", 1.0)):
        draws = torch.Generator().manual_seed(1)
        told = explain_twice(nla, writes.before, writes.before, None, temperature, draws)
        rows.append(_unchanged(arm, told, writes))
    return rows


def _fve_rows(arm: str, told: TwoExplanations, nla: Any, writes: LabelledWrites, mean: Tensor) -> list[Row]:
    preds = scaled_change(nla, told, writes.before, writes.before + writes.write)
    errors, deviations = squared_errors(preds, writes.write), squared_deviations(writes.write, mean)
    rows = []
    for kind, site in SITES.items():
        chosen = torch.nonzero(writes.site == writes.sites.index(site)).flatten()
        terms = errors[chosen], deviations[chosen], writes.document[chosen]
        rows.append(Row.of(arm, f"fve/{kind}", fve_interval(*terms, generator=generator()), layer=LAYER))
    return rows


def scaled_change(
    nla: Any, told: TwoExplanations, before: Float[Tensor, "n d_model"], after: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_model"]:
    """The change at the true norms of both states: words tell directions only, and this is the baseline's best case."""
    ends = []
    for texts, states in ((told.before, before), (told.after, after)):
        found = nla.reconstruct(texts)
        ends.append(found / found.norm(dim=-1, keepdim=True).clamp_min(1e-12) * states.norm(dim=-1, keepdim=True))
    return ends[1] - ends[0]


def _unchanged(arm: str, told: TwoExplanations, writes: LabelledWrites) -> Row:
    same = torch.tensor([float(value) for value in told.unchanged])
    return Row.of(arm, "unchanged_rate", mean_interval(same, writes.document, generator=generator()), layer=LAYER)
