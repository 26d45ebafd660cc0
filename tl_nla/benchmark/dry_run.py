"""Models and trainings of them whose tensors have shapes and no contents: what a run would hold, before it is run.

The model's own code runs under torch's ``FakeTensorMode``, so that every family is counted by what it does. Nothing is
loaded and nothing is computed: a model of eight billion parameters takes seconds and no memory.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tl_nla.benchmark.peak_memory import PeakMemory
from tl_nla.errors import InputError
from tl_nla.metrics.norms import at_least_float32
from tl_nla.model.cut import cut_backbone
from tl_nla.model.loading import quiet, with_score_cap
from tl_nla.model.lora import quiet_peft
from tl_nla.nla.generation import choose_tokens
from tl_nla.nla.roomy_cache import roomy_cache

ADDED = 12
"""Tokens that a reconstructor's prompt puts around an explanation."""


@dataclass(frozen=True)
class Recipe:
    """How the parts of a pair are made.

    Attributes:
        dtype: of weights that are not trained.
        mixed: whether passes are computed in bfloat16 (``bf16-mixed``).
        rank: of LoRA adapters on every linear layer; all weights are trained when ``None``.
        checkpointing: whether blocks are computed anew in the backward pass.
        slots: learned maps in front of the verbalizer, each of the model's width squared.
    """

    dtype: torch.dtype = torch.float32
    mixed: bool = False
    rank: int | None = None
    checkpointing: bool = False
    slots: int = 1


@dataclass
class Held:
    """Bytes alive at the peak of a phase, beside weights and optimiser."""

    activations: int = 0
    logits: int = 0
    gradients: int = 0
    cache: int = 0

    @property
    def total(self) -> int:
        """Their sum."""
        return self.activations + self.logits + self.gradients + self.cache


@contextmanager
def shapes_only(*modules: nn.Module) -> Iterator[None]:
    """Tensors that are made inside have shapes and no contents, those of the modules among them.

    Args:
        modules: on the ``meta`` device, which tells nothing of how a device computes; they are moved to the CPU.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode():
            _to_cpu(modules)
            yield
    finally:
        log.setLevel(level)


def _to_cpu(modules: Iterable[nn.Module]) -> None:
    """Give modules new tensors on the CPU; what was tied stays so."""
    made: dict[int, Tensor] = {}
    for module in (inner for outer in modules for inner in outer.modules()):
        for own in (module._parameters, module._buffers):
            for name, value in own.items():
                if value is None:
                    continue
                if id(value) not in made:
                    new: Tensor = torch.empty(value.shape, dtype=value.dtype)
                    made[id(value)] = nn.Parameter(new, value.requires_grad) if own is module._parameters else new
                own[name] = made[id(value)]  # type: ignore[assignment]


def language_model(config: Any, dtype: torch.dtype, blocks: int | None = None) -> Any:
    """A causal language model of a configuration on the ``meta`` device, or the backbone of its first blocks.

    Raises:
        InputError: when transformers cannot make one, or it has fewer blocks.
    """
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config)  # that of a cut model says so
    try:
        with quiet(), torch.device("meta"):
            model = with_score_cap(AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False))
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        kind = type(config).__name__
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"no causal language model can be made from a {kind}: {reason}") from error
    return model if blocks is None else cut_backbone(model, blocks, copy=False)


class Part(nn.Module):
    """One part of a pair: a model, and the float32 maps beside it.

    Args:
        model: of :func:`language_model`.
        recipe: what is trained.
        maps: shapes of the maps.
        map_trained: whether they are trained where the model has adapters.
    """

    def __init__(self, model: Any, recipe: Recipe, maps: list[tuple[int, ...]], map_trained: bool) -> None:
        super().__init__()
        trained = map_trained or recipe.rank is None
        self.maps = nn.ParameterList(
            nn.Parameter(torch.empty(shape, device="meta"), requires_grad=trained) for shape in maps
        )
        if recipe.checkpointing:
            with warnings.catch_warnings():  # transformers 5.23 has a new name for it, older ones the old name
                warnings.simplefilter("ignore", FutureWarning)
                model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model = model if recipe.rank is None else _with_adapters(model, recipe.rank)
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    def count(self) -> tuple[int, int]:
        """Numbers in all parameters, and in those that are trained."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self.parameters()]
        return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)

    def bytes(self) -> int:
        """Bytes of parameters and buffers."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.parameters(), *self.buffers()))


def _with_adapters(model: Any, rank: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("LoRA needs PEFT; install the extra: pip install 'tl-nla[lora]'") from error
    with quiet_peft():
        return get_peft_model(model.requires_grad_(False), LoraConfig(r=rank, target_modules="all-linear"))


@dataclass
class Dry:
    """Passes of the parts, watched.

    Attributes:
        parts: all that is there.
        recipe: how they are computed.
        vocab: size of the vocabulary.
    """

    parts: list[Part]
    recipe: Recipe
    vocab: int

    def trained(self, losses: Callable[[], Tensor]) -> Held:
        """Forward and backward pass without dropout."""
        parameters = [parameter for part in self.parts for parameter in part.parameters()]
        for part in self.parts:
            part.train(self.recipe.checkpointing)  # transformers checkpoints in training mode only
        with self._watched(parameters) as memory:
            hooks = [parameter.register_post_accumulate_grad_hook(lambda own: memory.relabel(own.grad, "gradients"))
                     for parameter in parameters if parameter.requires_grad]  # fmt: skip
            losses().backward()
        for hook in hooks:
            hook.remove()
        for parameter in parameters:
            parameter.grad = None
        return _held(memory)

    @torch.no_grad()
    def sampled(self, model: Any, rows: int, tokens: int) -> Held:
        """The last step of a generation: one token a row behind ``tokens - 1`` others, then the draw."""
        model.eval()
        with self._watched([*model.parameters(), *model.buffers()]) as memory:
            cache = roomy_cache()
            model(input_ids=torch.zeros(rows, tokens - 1, dtype=torch.long), past_key_values=cache, logits_to_keep=1)
            stored = [tensor for layer in cache.layers for tensor in vars(layer).values() if isinstance(tensor, Tensor)]
            size = sum(tensor.untyped_storage().nbytes() for tensor in stored)
            del stored
            memory.restart()
            last = torch.zeros(rows, 1, dtype=torch.long)
            logits = model(input_ids=last, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
            choose_tokens(logits, 1.0, torch.zeros(rows, dtype=torch.float64))
        held = _held(memory)
        return Held(held.activations - size, held.logits, 0, size)

    @contextmanager
    def _watched(self, known: Iterable[Tensor]) -> Iterator[PeakMemory]:
        def kind(tensor: Tensor) -> str:
            return "logits" if tensor.ndim > 1 and tensor.shape[-1] == self.vocab else "activations"

        memory = PeakMemory(known, kind)
        with memory, torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.mixed):
            yield memory


def _held(memory: PeakMemory) -> Held:
    return Held(**{kind: size for kind, size in memory.at_peak.items() if size})


def answer_loss(model: Any, rows: int, prompt: int, response: int, policy: bool = False) -> Tensor:
    """Loss of a verbalizer: cross-entropy of the response, or what the policy gradient is taken of."""
    embeddings = model.get_input_embeddings()(torch.zeros(rows, prompt + response, dtype=torch.long))
    kept = response + 1
    logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=kept).logits[:, -kept:-1]
    ids = torch.zeros(rows, response, dtype=torch.long)
    if policy:
        return torch.log_softmax(logits.float() / 1.0, -1).gather(-1, ids[..., None]).sum()
    return cross_entropy(at_least_float32(logits).flatten(0, 1), ids.flatten(), reduction="none").sum()


def reading_loss(part: Part, rows: int, tokens: int, prefixes: bool = False) -> Tensor:
    """Loss of a reconstructor: squared error of the vectors at the last tokens, or at all of them (``prefixes``)."""
    ids = torch.zeros(rows, tokens, dtype=torch.long)
    states = at_least_float32(part.model(input_ids=ids, use_cache=False).last_hidden_state)
    with torch.autocast("cpu", enabled=False):
        read = torch.nn.functional.linear(states if prefixes else states[:, -1], part.maps[0])
    unit = read / read.norm(dim=-1, keepdim=True)
    return (unit - torch.zeros_like(unit)).square().mean()
