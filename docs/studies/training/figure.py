"""The figure of suite ``training``: FVE over the time of the reinforcement learning, and over the tokens read."""

from collections.abc import Sequence

import torch

from docs.studies.training.score import BUDGETS, CURVE, TrainingRows

_LABELS = {
    "embedded": "shipped: recent words first", "shuffled_order": "random order", "next_first": "next word first",
    "ordered": "random order, then reinforcement",
}  # fmt: skip


def held_out_fve(part: TrainingRows, arm: str) -> float:
    """FVE of whole explanations of one seed."""
    return 1 - float(part.scores.errors[arm].double().sum() / part.scores.deviation.double().sum())


def fve_by_tokens(parts: Sequence[TrainingRows], arm: str) -> list[float]:
    """FVE after each of ``BUDGETS``, the mean over the seeds that have the arm."""
    having = [part for part in parts if arm in part.prefix]
    fractions = [
        1 - part.prefix[arm].double().sum(0) / part.scores.deviation[: len(part.prefix[arm])].double().sum()
        for part in having
    ]
    return torch.stack(fractions).mean(0).tolist()


def draw(parts: Sequence[TrainingRows], path: str) -> None:
    """Draw both panels.

    Args:
        parts: scores of each seed.
        path: file to write; its ending chooses the format.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "tl-nla", "font.size": 9}):
        figure = Figure(figsize=(8.5, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for part in parts:
            if "explanation" in part.curve:
                curve = part.curve["explanation"]
                minutes, fve = curve[:, CURVE.index("core_seconds")] / 60, curve[:, CURVE.index("fve")]
                (line,) = left.plot(minutes, fve, linewidth=1, label=f"seed {part.scores.seed}: sampled, as trained")
                ends = {0.0: held_out_fve(part, "warm_start"), float(minutes[-1]): held_out_fve(part, "explanation")}
                left.plot(list(ends), list(ends.values()), "o", color=line.get_color(), markersize=5)
        left.plot([], [], "o", color="gray", label="held out, greedy")
        left.axhline(0.85, color="gray", linewidth=0.8, linestyle=":")
        left.set(xlabel="processor minutes of reinforcement learning", ylabel="FVE", ylim=(0, 1))
        for (arm, label), marker in zip(_LABELS.items(), "os^x", strict=True):
            if any(arm in part.prefix for part in parts):
                style = {"marker": marker, "markersize": 4, "linewidth": 1.2, "label": label}
                right.plot(BUDGETS, fve_by_tokens(parts, arm), **style)
        right.axhline(0.8, color="gray", linewidth=0.8, linestyle=":")
        right.set(xlabel="tokens of the explanation that are read", ylim=(-1, 1), xlim=(0, 40))
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, loc="lower right", fontsize=8)
        figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
