"""Does the contribution report find what decided a word? Checked where the story world's generator knows.

Every recall of a story is a word decided by a fact told before. For each the report's ranking of heads and MLPs is held
against an exhaustive ablation with ordinary hooks, one component at a time. The sources that its first heads state are
held against the place where the fact was told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.attribution import Component, SkipConfig, all_components, skip_effects
from tl_nla.reports import layer_contributions
from tl_nla.reports.report import Cell, ContributionReport
from tl_nla.storyworld.corpus import story_ids
from tl_nla.storyworld.generator import Story

TOP = 3
KINDS = ("head", "mlp")


@dataclass(frozen=True)
class FactScore:
    """What the report says about one planted fact.

    Attributes:
        story: index of the story.
        claim: type of the fact.
        distance: tokens from the fact to the word.
        precision: share of the report's first three, ranked by the loss of the target's log-probability when skipped.
            It counts those among the first three of the one-at-a-time ablation at this position.
        precision_direct: the same for the report's first three by direct contribution.
        precision_everywhere: the report's first three against ablation at all positions at once.
        largest_difference: between the report's skip and the ablation, in nats, over all components.
        changes_answer: whether leaving out the report's first component alone changes the answer.
        sources: whether a source stated for one of the first three is where the fact was told, or the last earlier
            appearance of the answer.
        words: whether the answer is among the words stated as read by one of the first three.
    """

    story: int
    claim: str
    distance: int
    precision: float
    precision_direct: float
    precision_everywhere: float
    largest_difference: float
    changes_answer: bool
    sources: bool
    words: bool


def score_story(
    model: Any, tokenizer: Any, story: Story, index: int, min_distance: int = 20, oracle: Any = None
) -> list[FactScore]:
    """Score every fact of a story that was told early enough and that the model gets right.

    Args:
        model: the embedded target.
        tokenizer: its tokenizer.
        story: the story.
        index: its number, the cluster of the bootstrap.
        min_distance: least number of tokens between fact and word.
        oracle: whose sources are read; those computed from the model when ``None``.
    """
    ids = torch.tensor([story_ids(tokenizer, story)])
    guesses = model(ids).argmax(-1)[0]
    facts = [fact for fact in story.recalls if fact.word - max(fact.told, fact.seen) >= min_distance
             and guesses[fact.word] == ids[0, fact.word + 1]]  # fmt: skip
    if not facts:
        return []
    columns = sorted({fact.word for fact in facts})
    ids = ids[:, : columns[-1] + 2]
    targets = ids.roll(-1, 1)
    short, targets = ids[:, :-1], targets[:, :-1]
    report = layer_contributions(model, short, oracle, targets[0], columns, tokenizer=tokenizer)
    parts = all_components(model, KINDS)
    local = ablate_one_at_a_time(model, short, parts, columns, targets[0, columns])
    how = SkipConfig(everywhere=True, top_k=1)
    everywhere = skip_effects(model, short, parts, targets=targets, how=how).target_change
    scores = []
    for fact in facts:
        row = columns.index(fact.word)
        wide = everywhere[:, 0, fact.word]  # type: ignore[index]
        scores.append(_score(report, fact, index, [str(part) for part in parts], local[:, row], wide))
    return scores


@torch.no_grad()
def ablate_one_at_a_time(
    model: Any, tokens: Int[Tensor, "1 pos"], parts: Sequence[Component], columns: Sequence[int],
    targets: Int[Tensor, " n"],
) -> Float[Tensor, "component n"]:  # fmt: skip
    """Change of the target's log-probability with one head or MLP set to zero at one position, by ordinary hooks.

    The reference of this suite: it shares no code with :mod:`tl_nla.attribution.skips`. The rows of one batch are the
    positions.
    """
    count = len(columns)
    batch, place = tokens.repeat(count, 1), torch.tensor(columns)
    rows = torch.arange(count)
    clean = model(batch).float().log_softmax(-1)[rows, place, targets]
    changes = []
    for part in parts:
        name = f"blocks.{part.layer}." + ("attn.hook_z" if part.kind == "head" else "hook_mlp_out")

        def zero(value: Tensor, hook: Any, head: int | None = part.head) -> Tensor:
            value = value.clone()
            value[(rows, place) if head is None else (rows, place, head)] = 0.0
            return value

        logits = model.run_with_hooks(batch, fwd_hooks=[(name, zero)])
        changes.append(logits.float().log_softmax(-1)[rows, place, targets] - clean)
    return torch.stack(changes)


def _score(
    report: ContributionReport, fact: Any, index: int, names: list[str], local: Tensor, everywhere: Tensor
) -> FactScore:
    ranked = report.ranked(fact.word, KINDS)
    first, best = ranked[:TOP], _first(names, local)
    direct = [str(cell.site) for cell in report.ranked(fact.word, KINDS, "direct")[:TOP]]
    sites = [str(cell.site) for cell in first]
    difference = max(abs(float(cell.skip_target_change or 0.0) - float(local[names.index(str(cell.site))]))
                     for cell in ranked)  # fmt: skip
    told = {fact.told + 1, fact.seen + 1}  # the begin token stands before the words
    return FactScore(
        index, fact.claim, fact.word - max(fact.told, fact.seen), _share(sites, best), _share(direct, best),
        _share(sites, _first(names, everywhere)), difference, first[0].skip_flip,
        any(told & set(cell.source_positions) for cell in first), any(_reads(cell, fact.answer) for cell in first),
    )  # fmt: skip


def _first(names: list[str], change: Tensor) -> list[str]:
    return [names[i] for i in change.argsort()[:TOP].tolist()]


def _share(found: list[str], truth: list[str]) -> float:
    return len(set(found) & set(truth)) / TOP


def _reads(cell: Cell, answer: str) -> bool:
    """Whether the words of a cell, not only its numbers, name the answer as read."""
    from tl_nla.oracle.texts import parse_label

    return answer in (parse_label(cell.explanation).sources or ())
