"""SmolLM2 with adapters answers questions about writes, which enter at a few slots."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docs.studies.smollm2_questions.capture import KINDS, Writes
from tl_nla.data.progress import told
from tl_nla.metrics.ridge import fit_ridge
from tl_nla.model.families import trainable_copy
from tl_nla.nla import Injection
from tl_nla.nla.adapted import AdaptedPair, adapted_nla
from tl_nla.nla.prompts import PromptStyle, build_verbalizer_prompt

SLOTS, BATCH, RATE, MAP_RATE, DECAY = 4, 32, 2e-3, 2e-4, 1e-2
LEVELS = (" small", " medium", " large")
_START = "A component wrote:{injection_char}\n"
WORDINGS = {
    "attended": "Which word did it read? It read the word",
    "promoted": "Which word becomes more likely? More likely becomes the word",
    "suppressed": "Which word becomes less likely? Less likely becomes the word",
    "skip": "How large is its effect? The effect is",
    "free": "What does it do? It",
}
"""How each question is put. Nobody is taught to answer those about suppressed words, nor the free one."""
TRAINED = ("attended", "promoted", "skip")
SEEDS, REPEATED = (0, 1, 2), ("all", "without skip")
"""Of the trainings, and the arms that are trained by each; arms without a seed in their name have the first one."""


@dataclass(frozen=True)
class Recipe:
    """How a reader is trained.

    Attributes:
        kinds: questions that it is taught.
        steps: of 32 writes, each with one question; questions take turns.
        seed: of the adapters and of the order of writes.
    """

    kinds: tuple[str, ...] = TRAINED
    steps: int = 60
    seed: int = 0


class SizedInjection(Injection):
    """Learned slots that see how large a write is, beside what is usual for its head."""

    def forward(self, acts: Tensor) -> Tensor:
        """Vectors of the slots; ``acts`` have norm 1 where they are as large as usual."""
        scaled = acts.float() * float(self.config.scale or 1.0)
        return torch.einsum("nd,sed->nse", scaled, self.weight.float()) + self.bias.float()


class Reader:
    """A model that is asked.

    Args:
        model: SmolLM2, left as it is.
        tokenizer: its tokenizer.
        recipe: what it will be taught.
    """

    def __init__(self, model: Any, tokenizer: Any, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.verbalizer = adapted_nla(trainable_copy(model), tokenizer, AdaptedPair(0, SLOTS)).verbalizer
        self.verbalizer.injection = SizedInjection(self.verbalizer.injection.config, self.verbalizer.d_model)
        self.recipe, self.size, own = recipe, int(model.config.vocab_size), self.verbalizer
        self.prompts = {
            kind: build_verbalizer_prompt(own.tokenizer, _START + text, own.prompt.char, SLOTS, PromptStyle(chat=False))
            for kind, text in WORDINGS.items()
        }
        self.level = torch.tensor([tokenizer.encode(text)[0] for text in LEVELS])

    def logits(self, kind: str, vector: Tensor, batch: int = 64) -> Tensor:
        """What the answer's first token is thought to be: ``[n, vocab]``."""
        self.verbalizer.prompt = self.prompts[kind]
        # The vocabulary may have grown by the marker, which is no answer.
        nothing = torch.zeros(batch, 1, dtype=torch.long)
        parts = vector.split(batch)
        return torch.cat([self.verbalizer(part, nothing[: len(part)])[:, 0, : self.size].float() for part in parts])

    @torch.no_grad()
    def free(self, vector: Tensor, tokens: int = 10) -> list[str]:
        """Free explanations, greedy."""
        self.verbalizer.prompt = self.prompts["free"]
        return self.verbalizer.generate(vector, tokens, batch_size=128).texts

    def start(self, writes: Writes, vector: Tensor, goal: Mapping[str, Tensor]) -> None:
        """Let a slot for each taught question begin as the linear guess at the answer's embedding.

        The first slot stays the write itself. Slots of questions that are not taught stay it, too.
        """
        injection, rows = self.verbalizer.injection, torch.arange(len(writes))
        with torch.no_grad():
            for slot, kind in enumerate(TRAINED, 1):
                if kind in self.recipe.kinds:
                    known = rows[goal[kind] >= 0]
                    there = self.verbalizer.embed(goal[kind][known]).float()
                    scaled = vector[known] * float(injection.config.scale or 1.0)
                    fitted = fit_ridge(scaled, there, DECAY)
                    injection.weight[slot] = fitted.weight.T.to(injection.weight)
                    injection.bias[slot] = (fitted.target_mean - fitted.input_mean @ fitted.weight).to(injection.bias)

    def train(self, writes: Writes, vector: Tensor, goal: Mapping[str, Tensor]) -> list[float]:
        """Teach the recipe's questions.

        Args:
            writes: of training documents.
            vector: them, in units of their head's usual size.
            goal: token of the right answer by question, -1 where there is none.

        Returns:
            The loss of each step.
        """
        self.start(writes, vector, goal)
        own, draws, losses = self.verbalizer, torch.Generator().manual_seed(self.recipe.seed), list[float]()
        adapters = [weight for weight in own.model.parameters() if weight.requires_grad]
        maps = list(own.injection.parameters())
        groups = [{"params": adapters, "lr": RATE}, {"params": maps, "lr": MAP_RATE}]
        optimiser, order = torch.optim.AdamW(groups, weight_decay=0.0), dict[str, list[int]]()
        for (step,) in told([[step] for step in range(self.recipe.steps)], f"teaching {', '.join(self.recipe.kinds)}"):
            kind = self.recipe.kinds[step % len(self.recipe.kinds)]
            if len(order.get(kind, ())) < BATCH:
                known = torch.nonzero(goal[kind] >= 0).flatten()
                order[kind] = known[torch.randperm(len(known), generator=draws)].tolist()
            rows, order[kind] = order[kind][:BATCH], order[kind][BATCH:]
            for group, rate in zip(optimiser.param_groups, (RATE, MAP_RATE), strict=True):
                group["lr"] = rate * min(1.0, (step + 1) / 5, 2 * (1 - step / self.recipe.steps))
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                found = self.logits(kind, vector[rows])
            loss = torch.nn.functional.cross_entropy(found, goal[kind][rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*adapters, *maps], 1.0)
            optimiser.step()
            losses.append(float(loss.detach()))
        own.eval()
        return losses


def sized(writes: Writes, usual: Tensor) -> Tensor:
    """Writes in units of the usual size of their head's: ``usual`` is the root mean square norm of each head's."""
    return writes.vector / usual[writes.head][:, None]


def usual_size(writes: Writes) -> Tensor:
    """Root mean square norm of each head's writes."""
    squares = writes.vector.square().sum(1)
    return torch.stack([squares[writes.head == head].mean().sqrt() for head in range(len(writes.heads))])


def goals(writes: Writes, borders: Tensor, level: Tensor) -> dict[str, Tensor]:
    """The token of each right answer.

    Args:
        writes: rows.
        borders: of the effects, in nats.
        level: tokens of the answers about effects.
    """
    found = {kind: writes.answer[:, place] for place, kind in enumerate(KINDS[:3])}
    return {**found, "skip": level[torch.bucketize(writes.effect, borders)]}


def recipes(steps: int) -> dict[str, Recipe]:
    """All questions, each of them left out once, and no teaching at all; two of the arms by three seeds."""
    found = {"all": Recipe(TRAINED, steps), "untrained": Recipe((), 0)}
    for out in TRAINED:
        found[f"without {out}"] = Recipe(tuple(kind for kind in TRAINED if kind != out), steps)
    again = [(arm, seed) for seed in SEEDS[1:] for arm in reversed(REPEATED)]
    return found | {f"{arm}, seed {seed}": Recipe(found[arm].kinds, steps, seed) for arm, seed in again}
