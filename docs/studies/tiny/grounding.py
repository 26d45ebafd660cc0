"""Fits the probes that tell which facts a state of the embedded target holds."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.metrics.probe import fit_probe
from tl_nla.storyworld.explanations import fact_answers
from tl_nla.storyworld.facts import Facts
from tl_nla.storyworld.grounding import Grounding


def fit_grounding(
    acts: Float[Tensor, "n d_model"], facts: Sequence[Facts], site: str = "", floor: float = 0.3
) -> Grounding:
    """Fit one probe a kind of fact on training states.

    Args:
        acts: training states.
        facts: the truth at each.
        site: hook point of the states.
        floor: see :class:`tl_nla.storyworld.grounding.Grounding`.

    Returns:
        The probes; kinds told less than twice differently have none and are never held.
    """
    answers = [fact_answers(known) for known in facts]
    probes = {}
    for kind in fact_answers(Facts()):
        rows = [row for row, answer in enumerate(answers) if answer[kind] is not None]
        words = [str(answers[row][kind]) for row in rows]
        if len(set(words)) > 1:
            probes[kind] = fit_probe(acts[torch.tensor(rows)], words)
    return Grounding(probes, floor, site)
