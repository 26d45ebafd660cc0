"""Our fast paths beside the obvious way: same work, same process, outputs compared before the clock is read."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tl_nla.attribution import skip_logits
from tl_nla.benchmark.peak_memory import peak_megabytes
from tl_nla.benchmark.peers import cached_heads
from tl_nla.model.reading import read


@dataclass(frozen=True)
class Case:
    """Two ways to the same result.

    Attributes:
        name: of the case.
        peer: what the other way is.
        ours: our way.
        theirs: the other way.
        same: compares the two results.
        whole: the case that this one is a piece of; times of pieces are added up. A piece is run once.
        told: numbers about our result that belong to the row of a piece; they are added up, too.
    """

    name: str
    peer: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    same: Callable[[Any, Any], bool]
    whole: str = ""
    told: Callable[[Any], dict[str, float]] | None = None


def embedded_cases(tiny: Any) -> list[Case]:
    """The cases on an embedded model: an object with ``model`` and ``nla``."""
    tokens = torch.randint(10, 500, (8, 128), generator=torch.Generator().manual_seed(0))
    point = f"blocks.{tiny.nla.layer}.hook_resid_post"
    acts = read(tiny.model, tokens, [point], [-1, -20, -40, -60])[point]
    return [
        Case("head writes at 8 positions", "run_with_cache, use_attn_result", partial(head_writes, tiny.model, tokens),
             partial(cached_heads, tiny.model, tokens, PLACES), partial(_close, tolerance=1e-4)),
        Case("every block skipped at every position, 128 tokens", "one run_with_hooks a layer and position",
             partial(_skips, tiny.model, tokens[:1]), partial(_skips_one_by_one, tiny.model, tokens[:1]),
             partial(_close, tolerance=1e-4)),
        Case("32 explanations, greedy", "transformers generate, one state at a time",
             partial(_explain, tiny.nla, acts), partial(_explain_with_transformers, tiny.nla, acts), _equal),
    ]  # fmt: skip


def run_case(case: Case, model: torch.nn.Module, runs: int) -> dict[str, Any]:
    """Compare the results of both ways, then time them in turns.

    Args:
        case: what to run.
        model: whose parameters are not counted as memory used.
        runs: how often; the shortest time counts, since a busy machine only ever adds time.

    Returns:
        One row of the bench contract.

    Raises:
        RuntimeError: when the two ways do not give the same result.
    """
    if not case.same(case.ours(), case.theirs()):
        raise RuntimeError(f"{case.name}: the two ways differ, so their times say nothing")
    best = {"ours": float("inf"), "peer": float("inf")}
    for _ in range(runs):
        for side, function in (("ours", case.ours), ("peer", case.theirs)):
            started = time.perf_counter()
            function()
            best[side] = min(best[side], time.perf_counter() - started)
    return {
        "case": case.name, "ours_s": best["ours"], "peer": case.peer, "peer_s": best["peer"],
        "ratio": best["peer"] / best["ours"], "ours_peak_mb": peak_megabytes(case.ours, model),
        "peer_peak_mb": peak_megabytes(case.theirs, model), "runs": runs,
    }  # fmt: skip


PLACES = [1, 17, 33, 49, 65, 81, 97, 127]


def head_writes(model: Any, tokens: Tensor) -> Tensor:
    """Writes of all heads at ``PLACES``, read in one pass, ``[layer, row, head, d_model]``."""
    layers, heads = model.cfg.n_layers, model.cfg.n_heads
    sites = [f"blocks.{layer}.attn.head.{head}" for layer in range(layers) for head in range(heads)]
    reading = read(model, tokens, sites, PLACES)
    return torch.stack([reading.heads(layer) for layer in range(layers)])


def _skips(model: Any, tokens: Tensor) -> Tensor:
    return torch.stack([skip_logits(model, tokens, f"blocks.{layer}") for layer in range(model.cfg.n_layers)])


@torch.no_grad()
def _skips_one_by_one(model: Any, tokens: Tensor) -> Tensor:
    skipped = []
    for layer in range(model.cfg.n_layers):
        rows = []
        for position in range(tokens.shape[1]):
            kept: list[Tensor] = []

            def keep(activation: Tensor, hook: Any, kept: list[Tensor] = kept) -> None:
                kept.append(activation)

            def leave_out(activation: Tensor, hook: Any, kept: list[Tensor] = kept, at: int = position) -> Tensor:
                changed = activation.clone()
                changed[:, at] = kept[0][:, at]
                return changed

            hooks = [(f"blocks.{layer}.hook_resid_pre", keep), (f"blocks.{layer}.hook_resid_post", leave_out)]
            rows.append(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, position])
        skipped.append(torch.stack(rows, 1))
    return torch.stack(skipped)


def _explain(nla: Any, acts: Tensor) -> list[list[int]]:
    generation = nla.generate(acts, max_new_tokens=60)
    return [ids[mask.bool()].tolist() for ids, mask in zip(generation.ids, generation.mask, strict=True)]


@torch.no_grad()
def _explain_with_transformers(nla: Any, acts: Tensor) -> list[list[int]]:
    verbalizer = nla.verbalizer
    found = []
    for act in acts:
        prompt = verbalizer.prompt_embeddings(act[None])
        ids = verbalizer.model.generate(
            inputs_embeds=prompt, attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long), max_new_tokens=60,
            do_sample=False, eos_token_id=list(verbalizer.stop_ids), pad_token_id=verbalizer.pad_id,
        )  # fmt: skip
        found.append(ids[0].tolist())
    return found


def _close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return bool(torch.allclose(ours, theirs, atol=tolerance, rtol=tolerance))


def _equal(ours: list[list[int]], theirs: list[list[int]]) -> bool:
    return ours == theirs
