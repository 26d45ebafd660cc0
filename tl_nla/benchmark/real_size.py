"""Reading and reports at real size: each beside a peer on the same work in one run, outputs compared first.

Shapes are those of GPT-2 small and SmolLM2-135M with few layers and random weights, or a model that is given.
Processor seconds of one thread are compared: on a busy machine the clock tells of others.
"""

import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tl_nla.benchmark.bench import Case
from tl_nla.errors import unknown
from tl_nla.model.reading import read
from tl_nla.reports import ContributionReport, layer_contributions

_PLACES = [1, 17, 33, 49, 65, 81, 97, 127]
_SHAPES = ("gpt2", "smollm2")
_ONE_BY_ONE = 6
"""Models of more layers are not skipped component by component for comparison: that takes minutes."""


def shaped(shape: str, layers: int = 4) -> Any:
    """A bridge around random weights of a known shape.

    Args:
        shape: ``gpt2`` or ``smollm2``.
        layers: how many blocks.

    Raises:
        InputError: for another shape.
    """
    import transformers
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    if shape not in _SHAPES:
        raise unknown("shape", shape, _SHAPES)
    config: Any
    if shape == "gpt2":
        config = transformers.GPT2Config(n_layer=layers)
        made: Any = transformers.GPT2LMHeadModel
    else:
        config = transformers.LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
            num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192,
        )  # fmt: skip
        made = transformers.LlamaForCausalLM
    config.architectures = [made.__name__]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = made(config).eval()
    return build_bridge_from_module(plain, made.__name__, hf_config=config, tokenizer=None).eval()


def reading_cases(model: Any, tokens: Tensor) -> Iterator[Case]:
    """Reading of states and heads, beside the bare forward pass and beside TransformerLens's cache."""
    layers = int(model.cfg.n_layers)
    states = [f"blocks.{layer}.hook_resid_post" for layer in range(layers)]
    bare = partial(_bare, model, tokens)
    for name, sites in (("one layer's states", states[-1:]), ("all layers' states", states)):
        ours = partial(_states, model, tokens, sites)
        yield Case(name, "bare forward pass", ours, bare, _anything)
        yield Case(name, "run_with_cache", ours, partial(_cached, model, tokens, sites), _close)
    heads = partial(_heads, model, tokens)
    yield Case("all heads at 8 positions", "bare forward pass", heads, bare, _anything)
    yield Case("all heads at 8 positions", "run_with_cache, use_attn_result", heads,
                     partial(_cached_heads, model, tokens), _close)  # fmt: skip


def report_cases(model: Any, tokens: Tensor, positions: int) -> Iterator[Case]:
    """A report of the last positions, beside the bare forward pass; for few layers also one run a part."""
    columns = list(range(tokens.shape[1] - positions, tokens.shape[1]))
    ours = partial(layer_contributions, model, tokens, positions=columns)
    name = f"report at {positions} position{'s' if positions > 1 else ''} of {tokens.shape[1]} tokens"
    yield Case(name, "bare forward pass", ours, partial(_bare, model, tokens), _anything)
    if int(model.cfg.n_layers) <= _ONE_BY_ONE and positions == 1:
        theirs = partial(_one_by_one, model, tokens, columns[0])
        yield Case(name, "one run_with_hooks an attention and MLP", ours, theirs, _same_skips)


def compared(case: Case, rounds: int) -> dict[str, Any]:
    """Compare both results, then time both ways in turns.

    Args:
        case: what to run.
        rounds: how often; the least processor time counts.

    Returns:
        One row: names, processor seconds of both, and ours as a multiple of the peer's: of the least of both, and the
        median over the rounds.

    Raises:
        RuntimeError: when the two ways do not give the same result.
    """
    if not case.same(case.ours(), case.theirs()):
        raise RuntimeError(f"{case.name}: the two ways differ, so their times say nothing")
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for own, function in zip(taken, (case.ours, case.theirs), strict=True):
            begun = time.process_time()
            function()
            own.append(time.process_time() - begun)
    ours, theirs = (min(own) for own in taken)
    ratios = [one / other for one, other in zip(*taken, strict=True)]
    return {"case": case.name, "peer": case.peer, "ours_cpu_s": ours, "peer_cpu_s": theirs, "ratio": ours / theirs,
            "median_ratio": median(ratios), "rounds": rounds}  # fmt: skip


@torch.no_grad()
def _bare(model: Any, tokens: Tensor) -> Tensor:
    found: Tensor = model(tokens)
    return found


def _states(model: Any, tokens: Tensor, sites: list[str]) -> Tensor:
    reading = read(model, tokens, sites)
    return torch.stack([reading[site] for site in sites])


@torch.no_grad()
def _cached(model: Any, tokens: Tensor, sites: list[str]) -> Tensor:
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in sites)
    return torch.stack([cache[site].flatten(0, 1) for site in sites])


def _heads(model: Any, tokens: Tensor) -> Tensor:
    layers, heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    sites = [f"blocks.{layer}.attn.head.{head}" for layer in range(layers) for head in range(heads)]
    reading = read(model, tokens, sites, _PLACES)
    return torch.stack([reading.heads(layer) for layer in range(layers)])


@torch.no_grad()
def _cached_heads(model: Any, tokens: Tensor) -> Tensor:
    names = [f"blocks.{layer}.attn.hook_result" for layer in range(model.cfg.n_layers)]
    before = model.cfg.use_attn_result
    model.set_use_attn_result(True)
    try:
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names)
    finally:
        model.set_use_attn_result(before)
    return torch.stack([cache[name][:, _PLACES].flatten(0, 1) for name in names])


@torch.no_grad()
def _one_by_one(model: Any, tokens: Tensor, position: int) -> dict[str, float]:
    """KL without each attention and MLP, each by a run of the whole model."""
    clean = model(tokens)[0, position].float().log_softmax(-1)
    found = {}
    for layer in range(int(model.cfg.n_layers)):
        for kind, point in (("attn", "hook_attn_out"), ("mlp", "hook_mlp_out")):

            def leave_out(activation: Tensor, hook: Any) -> Tensor:
                changed = activation.clone()
                changed[:, position] = 0
                return changed

            logits = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.{point}", leave_out)])
            other = logits[0, position].float().log_softmax(-1)
            found[f"blocks.{layer}.{kind}"] = float((clean.exp() * (clean - other)).sum())
    return found


def _same_skips(report: ContributionReport, found: dict[str, float]) -> bool:
    ours = {cell.site: cell.skip_kl for cell in report.cells}
    return all(abs((ours[site] or 0.0) - kl) <= 1e-4 for site, kl in found.items())


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), atol=1e-3, rtol=1e-3)


def _anything(one: Any, other: Any) -> bool:
    """The bare pass gives nothing to compare; the same case beside another peer is compared."""
    return True
