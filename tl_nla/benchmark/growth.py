"""How reports and labels grow with the prompt, the layers, the heads and the vocabulary, one at a time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tl_nla.benchmark.figures import check_figure
from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.benchmark.shapes import BenchModel, bench_model
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.oracle.labels import Lens, Vocabulary, write_effects
from tl_nla.reports import layer_contributions

WAYS = {"forward pass": "bare forward pass", "labels": "labels of all writes at one position",
        "report": "report at one position"}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """A Llama of random weights, and the prompt that it reads.

    Attributes:
        tokens: of the prompt.
        layers: of the model.
        heads: of each layer, each of width 32.
        vocabulary: tokens that the model knows.
    """

    tokens: int = 256
    layers: int = 6
    heads: int = 8
    vocabulary: int = 32_000


STEPS: dict[str, tuple[int, ...]] = {
    "tokens": (64, 128, 256, 512, 1024, 2048),
    "layers": (3, 6, 12, 24),
    "heads": (4, 8, 16, 32),
    "vocabulary": (16_000, 32_000, 64_000, 128_000, 256_000),
}
"""What is varied; the other sizes are those of :class:`Size`. The width of the model is 256 throughout."""


def growth_rows(rounds: int = 3, tell: Callable[[str], Any] = lambda text: None) -> Iterator[dict[str, Any]]:
    """Processor seconds of one thread and peak memory of tensors at every size.

    Args:
        rounds: how often each is run; the least time counts.
        tell: hears what is measured next.

    Yields:
        Rows ``{"varied", "size", "way", "cpu_s", "peak_mb"}``.
    """
    for varied, steps in STEPS.items():
        for value in steps:
            tell(f"{varied}: {value}")
            yield from _rows_at(varied, value, replace(Size(), **{varied: value}), rounds)


def _rows_at(varied: str, value: int, size: Size, rounds: int) -> list[dict[str, Any]]:
    made = sized(size)
    tokens = torch.randint(
        10, min(10_000, size.vocabulary), (1, size.tokens), generator=torch.Generator().manual_seed(0)
    )
    known = [*made.bridge.parameters(), *made.bridge.buffers()]
    rows = []
    for way, run in _ways(made, tokens).items():
        run()  # what is found out once for a model
        best = float("inf")
        for _ in range(rounds):
            begun = time.process_time()
            run()
            best = min(best, time.process_time() - begun)
        with PeakMemory(known) as memory:
            kept = run()
        del kept
        rows.append({"varied": varied, "size": value, "way": way, "cpu_s": best, "peak_mb": memory.peak / 2**20})
    return rows


def sized(size: Size) -> BenchModel:
    """The model of a size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=256, intermediate_size=768, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, num_key_value_heads=size.heads, head_dim=32, tie_word_embeddings=True,
        max_position_embeddings=4096,
    )  # fmt: skip
    config.architectures = ["LlamaForCausalLM"]
    return bench_model(LlamaForCausalLM, config, f"Llama of {size}")


def _ways(made: BenchModel, tokens: torch.Tensor) -> dict[str, Callable[[], Any]]:
    model, last = made.bridge, tokens.shape[1] - 1
    layers, heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    parts = [f"attn.head.{head}" for head in range(heads)] + ["attn", "mlp"]
    sites = [f"blocks.{layer}.{part}" for layer in range(layers) for part in parts]
    named = Vocabulary.of(None, int(model.W_U.shape[1]))
    with torch.no_grad():
        reading, lens = read(model, tokens, sites, [last]), Lens.of(model)
    write = torch.cat([reading[site] for site in sites])
    before = torch.cat([reading.before(site) for site in sites])

    @torch.no_grad()
    def bare() -> Any:
        return model(tokens)

    return {
        WAYS["forward pass"]: bare,
        WAYS["labels"]: lambda: write_effects(lens, write, before, named),
        WAYS["report"]: lambda: layer_contributions(model, tokens, positions=[last]),
    }


def draw_growth(rows: list[dict[str, Any]], path: str | Path) -> None:
    """A panel for each thing that was varied: processor seconds over it, on logarithmic axes.

    Args:
        rows: of :func:`growth_rows`.
        path: of the figure; its ending says which kind.

    Raises:
        InputError: without rows, or when it cannot be drawn or written.
    """
    if not rows:
        raise InputError("there are no rows to draw; give those of growth_rows")
    check_figure(str(path))
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys(row["varied"] for row in rows))
    figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 3.2), sharey=True, squeeze=False)
    for axis, varied in zip(axes[0], panels, strict=True):
        for way in dict.fromkeys(row["way"] for row in rows):
            own = [(row["size"], row["cpu_s"]) for row in rows if (row["varied"], row["way"]) == (varied, way)]
            axis.plot(*zip(*own, strict=True), marker="o", markersize=3, label=way)
        sizes = sorted({row["size"] for row in rows if row["varied"] == varied})
        axis.set(xscale="log", yscale="log", xlabel=varied)
        axis.set_xticks(sizes, [f"{size // 1000}k" if size >= 10_000 else str(size) for size in sizes])
        axis.minorticks_off()
    axes[0][0].set_ylabel("processor seconds of one thread")
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
