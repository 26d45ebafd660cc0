"""Reading and reports at real size: each beside peers on the same work in one run, outputs compared first.

Processor seconds of one thread are compared: on a busy machine the clock tells of others.
"""

import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tl_nla.attribution.direct import direct_attribution
from tl_nla.benchmark import peers
from tl_nla.benchmark.bench import PLACES, Case, head_writes
from tl_nla.benchmark.shapes import BenchModel
from tl_nla.model.families import decoder_layers, text_backbone
from tl_nla.model.reading import read
from tl_nla.reports import ContributionReport, layer_contributions

_ONE_BY_ONE = 6
"""Models of more layers are not skipped component by component for comparison: that takes minutes."""
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2}
"""Relative error of two runs of a model. In bfloat16 they round at other places: heads of SmolLM2 read in three ways
lie 2.0% from those in float32 each, and 1.9% and 2.2% from each other."""
_SAME_RUN = {torch.float32: 1e-4, torch.bfloat16: 5e-3}
"""The same for numbers made from the inputs of one run: what is left is the last rounding (.2% on SmolLM2)."""


def reading_cases(made: BenchModel, tokens: Tensor) -> Iterator[Case]:
    """Reading of states and heads, beside the bare forward pass and every peer."""
    model, layers = made.bridge, int(made.bridge.cfg.n_layers)
    states = [f"blocks.{layer}.hook_resid_post" for layer in range(layers)]
    bare = partial(_bare, model, tokens)
    sight = peers.NNsight(made.plain) if made.plain is not None and peers.has_nnsight() else None
    for name, kept in (("one layer's states", [layers - 1]), ("all layers' states", list(range(layers)))):
        sites = [states[layer] for layer in kept]
        ours = partial(_states, model, tokens, sites)
        yield Case(name, "bare forward pass", ours, bare, _anything)
        yield Case(name, "bare forward pass without logits", ours, partial(_without_logits, model, tokens), _anything)
        yield Case(name, "run_with_cache", ours, partial(peers.cached, model, tokens, sites), _close)
        if made.plain is not None:
            theirs = partial(peers.hooked, made.plain, tokens, kept)
            yield Case(name, "hooks on the Hugging Face model", ours, theirs, _close)
        if sight is not None:
            yield Case(name, "nnsight", ours, partial(sight.states, tokens, kept), _close)
    name, heads = "all heads at 8 positions", partial(head_writes, model, tokens)
    yield Case(name, "bare forward pass", heads, bare, _anything)
    yield Case(name, "bare forward pass without logits", heads, partial(_without_logits, model, tokens), _anything)
    if made.plain is not None and hasattr(decoder_layers(made.plain)[0], "post_feedforward_layernorm"):
        return  # a norm stands behind the heads: our writes are those of the stream, the peers' those in front of it
    yield Case(name, "float32 products of the run's own inputs", heads,
               partial(peers.own_heads, model, tokens, PLACES), _same_run)  # fmt: skip
    yield Case(name, "run_with_cache, use_attn_result", heads,
               partial(peers.cached_heads, model, tokens, PLACES), _close)  # fmt: skip
    if made.plain is not None:
        theirs = partial(peers.hooked_heads, made.plain, tokens, PLACES, int(model.cfg.n_heads))
        yield Case(name, "hooks on the Hugging Face model", heads, theirs, _close)


def direct_cases(made: BenchModel, tokens: Tensor) -> Iterator[Case]:
    """Direct attribution at every position, beside TransformerLens's; for random weights, whose norms have no gain."""
    model, predicted = made.bridge, tokens.roll(-1, 1)
    yield Case("direct attribution of every attention and MLP", "decompose_resid, apply_ln_to_stack",
               partial(_direct, model, tokens, predicted),
               partial(_their_direct, model, tokens, predicted), _close)  # fmt: skip


def report_cases(made: BenchModel, tokens: Tensor, positions: int) -> Iterator[Case]:
    """A report of the last positions, beside the bare forward pass; for few layers also one run a part."""
    model = made.bridge
    columns = list(range(tokens.shape[1] - positions, tokens.shape[1]))
    ours = partial(layer_contributions, model, tokens, positions=columns)
    name = f"report at {positions} position{'s' if positions > 1 else ''} of {tokens.shape[1]} tokens"
    yield Case(name, "bare forward pass", ours, partial(_bare, model, tokens), _anything)
    if int(model.cfg.n_layers) <= _ONE_BY_ONE and positions == 1:
        theirs = partial(_one_by_one, model, tokens, columns[0])
        same = partial(_same_skips, share=0.0 if model.cfg.dtype == torch.float32 else 0.01)
        yield Case(name, "one run_with_hooks an attention and MLP", ours, theirs, same)


def compared(case: Case, rounds: int) -> dict[str, Any]:
    """Compare both results, then time both ways in turns; a piece of a whole is timed while it is compared.

    Args:
        case: what to run.
        rounds: how often; the least processor time counts.

    Returns:
        One row: names, processor seconds of both, and ours as a multiple of the peer's. It is that of the least of
        both, and the median over the rounds. Where the two results differ the row says so, and has no times.
    """
    names = {"case": case.name, "peer": case.peer, "whole": case.whole}
    taken: tuple[list[float], list[float]] = [], []

    def run() -> list[Any]:
        found = []
        for own, function in zip(taken, (case.ours, case.theirs), strict=True):
            begun = time.process_time()
            found.append(function())
            own.append(time.process_time() - begun)
        return found

    first = run()
    if not case.same(*first):
        return {**names, "differ": True}
    told = {"told": case.told(first[0])} if case.told else {}
    if not case.whole:
        for own in taken:
            own.clear()
        for _ in range(rounds):
            run()
    ours, theirs = (min(own) for own in taken)
    ratios = [one / other for one, other in zip(*taken, strict=True)]
    return {**names, "ours_cpu_s": ours, "peer_cpu_s": theirs, "ratio": ours / theirs,
            "median_ratio": median(ratios), "rounds": len(ratios), **told}  # fmt: skip


def added_up(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as they are told: times of the pieces of a whole added up, rows of other cases as they are."""
    found = [row for row in rows if not row["whole"]]
    for name in dict.fromkeys(row["whole"] for row in rows if row["whole"]):
        pieces = [row for row in rows if row["whole"] == name]
        total = {"case": name, "peer": pieces[0]["peer"], "whole": "", "pieces": len(pieces)}
        if any("differ" in row for row in pieces):
            found.append({**total, "differ": True})
            continue
        ours, theirs = (sum(row[side] for row in pieces) for side in ("ours_cpu_s", "peer_cpu_s"))
        middle = median(row["ratio"] for row in pieces)
        found.append({**total, "ours_cpu_s": ours, "peer_cpu_s": theirs, "ratio": ours / theirs,
                      "median_ratio": middle, "rounds": 1, **_told_of(pieces, ours)})  # fmt: skip
    return found


def _told_of(pieces: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    """Explanations a second, and the FVE of what is read back from them, where the pieces tell it."""
    if any("told" not in row for row in pieces):
        return {}
    count, error, deviation = (sum(row["told"][name] for row in pieces)
                               for name in ("explanations", "error", "deviation"))  # fmt: skip
    return {"explanations_per_s": count / seconds, "fve": 1 - error / deviation}


@torch.no_grad()
def _bare(model: Any, tokens: Tensor) -> Tensor:
    found: Tensor = model(tokens)
    return found


@torch.no_grad()
def _without_logits(model: Any, tokens: Tensor) -> Tensor:
    """The same blocks alone: what reading costs beside them does not hide behind a large vocabulary."""
    backbone: Any = text_backbone(model.original_model)
    found: Tensor = backbone(input_ids=tokens, use_cache=False).last_hidden_state
    return found


def _states(model: Any, tokens: Tensor, sites: list[str]) -> Tensor:
    reading = read(model, tokens, sites)
    return torch.stack([reading[site] for site in sites])


def _direct(model: Any, tokens: Tensor, predicted: Tensor) -> Tensor:
    found = direct_attribution(model, tokens, predicted)
    parts = [place for place, label in enumerate(found.labels) if label.startswith("blocks.")]
    return found.values[parts]


def _their_direct(model: Any, tokens: Tensor, predicted: Tensor) -> Tensor:
    return peers.logit_attribution(model, tokens, predicted)[-2 * int(model.cfg.n_layers) :]


@torch.no_grad()
def _one_by_one(model: Any, tokens: Tensor, position: int) -> dict[str, float]:
    """KL without each attention and MLP, each by a run of the whole model."""
    clean = model(tokens)[0, position].double().log_softmax(-1)
    found = {}
    for layer in range(int(model.cfg.n_layers)):
        for kind, point in (("attn", "hook_attn_out"), ("mlp", "hook_mlp_out")):

            def leave_out(activation: Tensor, hook: Any) -> Tensor:
                changed = activation.clone()
                changed[:, position] = 0
                return changed

            logits = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.{point}", leave_out)])
            other = logits[0, position].double().log_softmax(-1)
            found[f"blocks.{layer}.{kind}"] = float((clean.exp() * (clean - other)).sum())
    return found


def _same_skips(report: ContributionReport, found: dict[str, float], share: float) -> bool:
    """Within 1e-4, and a share of the divergence where the model itself rounds to eight bits."""
    ours = {cell.site: cell.skip_kl for cell in report.cells}
    return all(abs((ours[site] or 0.0) - kl) <= 1e-4 + share * kl for site, kl in found.items())


def _close(one: Tensor, other: Tensor, tolerance: dict[torch.dtype, float] = _TOLERANCE) -> bool:
    error = (one.float() - other.float()).norm() / other.float().norm()
    return one.shape == other.shape and float(error) <= tolerance.get(one.dtype, 1e-4)


def _same_run(ours: Tensor, theirs: Tensor) -> bool:
    return _close(ours, theirs, _SAME_RUN)


def _anything(one: Any, other: Any) -> bool:
    """The bare pass gives nothing to compare; the same case beside another peer is compared."""
    return True
