"""One arm: how a state of layer 16 enters the model, before any training and after a short one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docs.studies.real_states import DrawnStates
from tl_nla.data.progress import told
from tl_nla.model.families import trainable_copy
from tl_nla.nla import Injection, InjectionConfig, Verbalizer
from tl_nla.nla.adapted import AdaptedPair, adapted_nla
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.fresh import mean_embedding_norm
from tl_nla.nla.marker import choose_marker, make_room
from tl_nla.nla.prompts import PromptStyle, build_verbalizer_prompt
from tl_nla.nla.slot_start import start_slots

LAYER = 16
IDENTITY = "cat: cat; river: river; seven: seven; green: green; {injection_char}:"
"""What stands at the marker is said again: the prompt of Patchscopes (Ghandeharioun et al. 2024), with our words."""
SLOTS = 8
_RATE, _MAP_RATE = 2e-3, 2e-4


@dataclass(frozen=True)
class Arm:
    """How the vector enters.

    Attributes:
        kind: see :class:`tl_nla.nla.InjectionConfig`.
        factor: of the scale; the mean norm of the token embeddings is 1.
        slots: tokens that carry the vector.
        started: whether learned slots start as linear guesses at the last words.
        strength: factor of the norm for kinds that change a block's output.
    """

    kind: str
    factor: float = 1.0
    slots: int = 1
    started: bool = False
    strength: float = 1.0


ARMS = {
    "constant_1": Arm("constant"), "constant_3": Arm("constant", 3.0), "sqrt_d": Arm("sqrt_d"), "raw": Arm("raw"),
    "norm_150": Arm("constant", 0.0), "norm_matched": Arm("norm_matched"), "additive": Arm("additive"),
    "additive_4": Arm("additive", strength=4.0), "affine": Arm("affine"), "constant_1/8_slots": Arm("constant", 1.0, 8),
    "sqrt_d/8_slots": Arm("sqrt_d", 1.0, 8), "affine/8_slots": Arm("affine", 1.0, 8),
    "affine/8_slots_started": Arm("affine", 1.0, 8, True),
}  # fmt: skip
TRAINED = ("constant_1", "affine/8_slots_started", "sqrt_d", "constant_1/8_slots")


def config_of(arm: Arm, norm: float) -> InjectionConfig:
    """The injection of an arm; factor 0 stands for a norm of 150.

    Args:
        arm: which one.
        norm: mean norm of the token embeddings.
    """
    scale = None if arm.kind not in ("constant", "affine") else norm * arm.factor or 150.0
    return InjectionConfig(arm.kind, scale, arm.slots, strength=arm.strength)


def untrained(model: Any, tokenizer: Any, arm: Arm) -> Verbalizer:
    """The model itself, with a prompt that lets it say again what stands at the marker."""
    marker = choose_marker(tokenizer, [IDENTITY], [arm.slots])
    make_room(model, marker)
    prompt = build_verbalizer_prompt(marker.tokenizer, IDENTITY, marker.char, arm.slots, PromptStyle(chat=False))
    return Verbalizer(model, marker.tokenizer, prompt, config_of(arm, mean_embedding_norm(model)), AnswerRule("all"))


def trained(model: Any, tokenizer: Any, arm: Arm, data: DrawnStates, steps: int, batch: int) -> Verbalizer:
    """Adapters of rank 8 trained to say the token at the position and the one that follows, on the same rows.

    Args:
        model: left as it is.
        tokenizer: its tokenizer.
        arm: how the vector enters.
        data: training rows, taken in order.
        steps: of training.
        batch: rows of a step.
    """
    torch.manual_seed(0)
    verbalizer = adapted_nla(trainable_copy(model), tokenizer, AdaptedPair(LAYER, arm.slots)).verbalizer
    config = config_of(arm, mean_embedding_norm(model))
    verbalizer.injection = Injection(config, verbalizer.d_model)
    acts, goal = data.acts[LAYER], torch.stack([data.last, data.following], 1)
    if arm.started:
        start_slots(verbalizer, acts, data.contexts)
    adapters = [weight for weight in verbalizer.model.parameters() if weight.requires_grad]
    maps = list(verbalizer.injection.parameters())
    groups = [{"params": adapters, "lr": _RATE}] + ([{"params": maps, "lr": _MAP_RATE}] if maps else [])
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0)
    order = torch.randperm(len(acts), generator=torch.Generator().manual_seed(0))
    for (step,) in told([[step] for step in range(steps)], "training"):
        rows = order[torch.arange(step * batch, (step + 1) * batch) % len(order)]
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = verbalizer(acts[rows], goal[rows])
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), goal[rows].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*adapters, *maps], 1.0)
        optimiser.step()
    return verbalizer.eval()


@torch.no_grad()
def answers(verbalizer: Verbalizer, acts: Tensor, goal: Tensor, batch: int = 100) -> tuple[Tensor, Tensor]:
    """Nats of every wanted token, and whether it is the likeliest one.

    Args:
        verbalizer: with or without training.
        acts: states.
        goal: tokens that are right, one or more a row.
        batch: rows of a pass.
    """
    nats, right = [], []
    for start in range(0, len(acts), batch):
        rows = slice(start, start + batch)
        chances = verbalizer(acts[rows], goal[rows]).float().log_softmax(-1)
        nats.append(-chances.gather(2, goal[rows, :, None])[..., 0])
        right.append((chances.argmax(-1) == goal[rows]).float())
    return torch.cat(nats), torch.cat(right)
