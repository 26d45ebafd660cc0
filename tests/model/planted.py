"""Errors planted in a model, and the slow float64 reference that says what each part really adds."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch

from tests.zoo import D_MODEL, VOCAB

LAYER = 1


def direction(size: int = D_MODEL, seed: int = 3) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@contextmanager
def _forward(module, change: Callable) -> Iterator[None]:
    """A module whose output is not what it shows inside."""

    def after(module, args, kwargs, out):
        given = args[0] if args else next(iter(kwargs.values()))
        changed = change(given, out[0] if isinstance(out, tuple) else out)
        return (changed, *out[1:]) if isinstance(out, tuple) else changed

    with _removed(module.register_forward_hook(after, with_kwargs=True)):
        yield


@contextmanager
def _hook(model, name: str, change: Callable) -> Iterator[None]:
    """A user's hook of TransformerLens."""
    point = model.hook_dict[name]
    known = set(map(id, point.fwd_hooks))
    point.add_hook(lambda value, hook: change(value))
    try:
        yield
    finally:
        for handle in [handle for handle in point.fwd_hooks if id(handle) not in known]:
            handle.hook.remove()
            point.fwd_hooks.remove(handle)


@contextmanager
def _removed(handle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _like(vector: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return vector.to(x)


def _double_head(z: torch.Tensor) -> torch.Tensor:
    z = z.clone()
    z[..., 1, :] *= 2
    return z


def _before_block(block, args, kwargs):
    if args:
        return (args[0] + _like(direction(), args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + _like(direction(), kwargs["hidden_states"])}


def plants(model) -> dict[str, Callable]:
    """Every plant, by name: a function that gives a context in which the model has the error."""
    block, norm, name = model.blocks[LAYER], model.ln_final, f"blocks.{LAYER}."
    gain, shift = 1 + 0.3 * direction(), direction()
    logits = 2 * direction(VOCAB)
    inner, projection = block.original_component, block.attn.o.original_component
    return {
        "gain": lambda: _forward(norm, lambda x, y: y * _like(gain, y)),
        "gain of one channel": lambda: _forward(norm, lambda x, y: y * _like(GAINS["gain of one channel"], y)),
        "a little gain": lambda: _forward(norm, lambda x, y: y * _like(1 + 0.03 * direction(), y)),
        "scaled norm": lambda: _forward(norm, lambda x, y: y * 1.2),
        "missing bias": lambda: _forward(norm, lambda x, y: y - _like(shift, y)),
        "bent norm": lambda: _forward(norm, lambda x, y: y + 0.5 * torch.tanh(y)),
        "branch": lambda: _forward(inner, lambda x, y: y + 0.3 * torch.tanh(x)),
        "branch outside": lambda: _forward(block, lambda x, y: y + 0.3 * torch.tanh(y)),
        "constant branch": lambda: _forward(inner, lambda x, y: y + _like(0.3 * direction(), y)),
        "residual": lambda: _forward(inner, lambda x, y: y + 0.05 * x),
        "residual outside": lambda: _forward(block, lambda x, y: y * 1.05),
        "head": lambda: _hook(model, f"{name}attn.hook_z", _double_head),
        "attention": lambda: _hook(model, f"{name}hook_attn_out", lambda y: y * 1.5),
        "attention bias": lambda: _hook(model, f"{name}hook_attn_out", lambda y: y - _like(0.3 * direction(), y)),
        "projection": lambda: _forward(projection, lambda x, y: y + _like(direction(), y)),
        "mlp": lambda: _hook(model, f"{name}hook_mlp_out", lambda y: y * 1.5),
        "logits": lambda: _forward(model.unembed, lambda x, y: y + _like(logits, y)),
        "logits outside": lambda: _forward(model, lambda x, y: y + _like(logits, y)),
        "scaled logits": lambda: _forward(model, lambda x, y: 1.3 * y),
        "squashed logits": lambda: _forward(model, lambda x, y: 3 * torch.tanh(y / 3)),
        "edit": lambda: _hook(model, f"{name}hook_resid_post", lambda y: y + _like(direction(), y)),
        "scaled edit": lambda: _hook(model, f"{name}hook_resid_post", lambda y: 1.1 * y),
        "edit before": lambda: _hook(model, f"{name}hook_resid_pre", lambda y: y + _like(direction(), y)),
        "edit between": lambda: _removed(block.register_forward_pre_hook(_before_block, with_kwargs=True)),
        "last edit": lambda: _hook(model, "ln_final.hook_in", lambda y: y + _like(direction(), y)),
    }  # fmt: skip


GAINS = {
    "gain": 1 + 0.3 * direction(),
    "gain of one channel": 1 + 3.0 * (torch.arange(D_MODEL) == 5),
    "a little gain": 1 + 0.03 * direction(),
    "scaled norm": torch.tensor(1.2),
}


class Reference:
    """What each part of one run adds to a logit, in float64, from plain hooks and the weights alone."""

    def __init__(self, model, tokens: torch.Tensor) -> None:
        self.model, self.seen = model, {}
        layers = range(int(model.cfg.n_layers))
        names = [f"blocks.{i}.{name}" for i in layers for name in ("hook_attn_out", "hook_mlp_out")]
        names += ["blocks.0.hook_resid_pre", "ln_final.hook_in"]
        with ExitStack() as stack, torch.no_grad():
            for name in names:
                stack.enter_context(_hook(model, name, self._keeper(name)))
            for i in layers:
                stack.enter_context(_hook(model, f"blocks.{i}.attn.o.hook_out", self._keeper(f"total.{i}")))
                projection = model.blocks[i].attn.o.original_component
                keep = self._keeper(f"z.{i}")
                stack.enter_context(_removed(projection.register_forward_pre_hook(lambda m, a, keep=keep: keep(a[0]))))
            self.logits = model(tokens).double()

    def _keeper(self, name: str) -> Callable:
        def keep(value):
            self.seen[name] = value.detach().double()

        return keep

    @property
    def range(self) -> torch.Tensor:
        return self.logits.amax(-1) - self.logits.amin(-1)

    @torch.no_grad()
    def parts(self, target: torch.Tensor, gain: torch.Tensor, scaled_up: float = 1.0) -> dict[str, torch.Tensor]:
        """Contributions by label; ``scaled_up`` multiplies what is written before ``LAYER``."""
        norm, last = self.model.ln_final, self.seen["ln_final.hook_in"]
        row = self.model.W_U.T[target].double() * _weight(norm) * gain.double()
        if _centred(norm):
            row, last = row - row.mean(-1, keepdim=True), last - last.mean(-1, keepdim=True)
        row = row / (last.square().mean(-1, keepdim=True) + _eps(norm)).sqrt()
        found = {"embed": self.seen["blocks.0.hook_resid_pre"] * scaled_up}
        for i in range(int(self.model.cfg.n_layers)):
            later = scaled_up if i < LAYER else 1.0
            for kind in ("attn", "mlp"):
                found[f"blocks.{i}.{kind}"] = self.seen[f"blocks.{i}.hook_{kind}_out"] * later
            for head, write in enumerate(self.heads(i)):
                found[f"blocks.{i}.attn.head.{head}"] = write * later
        return {label: (write * row).sum(-1) for label, write in found.items()}

    def heads(self, layer: int) -> list[torch.Tensor]:
        projection = self.model.blocks[layer].attn.o.original_component
        weight = projection.weight.double()
        weight = weight if type(projection).__name__ == "Conv1D" else weight.T
        z = self.seen[f"z.{layer}"].flatten(2)
        split = zip(z.chunk(int(self.model.cfg.n_heads), -1), weight.chunk(int(self.model.cfg.n_heads)), strict=True)
        writes = [one @ rows for one, rows in split]
        norm = getattr(self.model.blocks[layer], "ln1_post", None)
        if norm is None:
            return writes
        total = self.seen[f"total.{layer}"]
        return [write * _weight(norm) / (total.square().mean(-1, keepdim=True) + _eps(norm)).sqrt() for write in writes]


def _weight(norm) -> torch.Tensor:
    weight = norm.original_component.weight.double()
    return 1 + weight if "Gemma" in type(norm.original_component).__name__ else weight


def _eps(norm) -> float:
    inner = norm.original_component
    return getattr(inner, "variance_epsilon", None) or inner.eps


def _centred(norm) -> bool:
    return type(norm.original_component).__name__ == "LayerNorm"
