"""What readings, captures and reports hold, by the budgets that they keep."""

from types import SimpleNamespace
from typing import Any

import torch

from tl_nla.benchmark.dry_pass import pass_peak
from tl_nla.benchmark.dry_run import language_model
from tl_nla.benchmark.estimate import Estimate, Workload
from tl_nla.model.memory import PASS_BUDGET, pass_bytes
from tl_nla.model.narrow import LOGIT_BUDGET

_FLOAT32 = 4
_TOGETHER = 64
"""Documents of a pass at most."""
_WRITES_BUDGET = 2**26
"""Bytes of activations of a pass that captures writes."""


def reading(config: Any, task: str, work: Workload, dtype: torch.dtype) -> Estimate:
    """The estimate of one of ``READINGS``; see :func:`tl_nla.benchmark.estimate.estimate`."""
    model = language_model(config, dtype)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    weights = sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers()))
    shape = _Shape(config, dtype)
    activations, logits, passes = getattr(shape, task.replace("-", "_"))(work)
    total = weights + activations + logits
    return Estimate(task, numbers, 0, weights, 0, 0, activations, 0, logits, total, passes)


class _Shape:
    """Sizes of a model as the budgets see them."""

    def __init__(self, config: Any, dtype: torch.dtype) -> None:
        self.width, self.layers = int(config.hidden_size), int(config.num_hidden_layers)
        self.heads = int(getattr(config, "num_attention_heads", None) or 1)
        self.vocab, self.size = int(config.vocab_size), torch.empty((), dtype=dtype).element_size()
        groups = int(getattr(config, "num_key_value_heads", None) or self.heads)
        d_head = int(getattr(config, "head_dim", None) or self.width // self.heads)
        hidden = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * self.width
        cfg = SimpleNamespace(n_heads=self.heads, d_model=self.width, n_layers=self.layers, d_mlp=int(hidden),
                              n_key_value_heads=groups, d_head=d_head)  # fmt: skip
        self._like = SimpleNamespace(cfg=cfg, parameters=lambda: iter([torch.empty(0, dtype=dtype)]))
        self._config, self._dtype = config, dtype
        self.keys = 2 * self.layers * groups * d_head * self.size

    def read(self, work: Workload) -> tuple[int, int, float]:
        """All layers' states of some texts, read in one pass."""
        states = work.batch_size * work.tokens * self.width * self.size * (self.layers + 1)
        return self._blocks(work.batch_size, work.tokens) + states, self.vocab * self.size, 1.0

    def capture_states(self, work: Workload) -> tuple[int, int, float]:
        """States of one site, with logits of the positions that are drawn."""
        rows = work.documents * work.positions * self.width * _FLOAT32
        drawn = max(1, work.positions) * self.vocab
        together = min(_TOGETHER, work.documents, PASS_BUDGET // pass_bytes(self._like, work.tokens),
                       LOGIT_BUDGET // drawn)  # fmt: skip
        together = max(1, together)
        blocks = self._blocks(together, work.tokens)
        logits = 2 * _FLOAT32 * min(LOGIT_BUDGET, drawn * together)  # behind the blocks, whose tensors are gone by then
        return rows + blocks, max(0, logits - blocks), 1.0

    def _blocks(self, texts: int, tokens: int) -> int:
        """Bytes at the fullest moment of a pass: counted by the model's own code, else by the budget of passes."""
        counted = pass_peak(self._config, self._dtype, texts, tokens)
        return texts * pass_bytes(self._like, tokens) if counted is None else counted

    def capture_writes(self, work: Workload) -> tuple[int, int, float]:
        """Writes of all heads, attentions, MLPs and blocks with effect labels, without the ``skip`` question."""
        sites = self.layers * (self.heads + 3)
        rows = 2 * work.documents * work.positions * sites * self.width * _FLOAT32
        labels = self.vocab * self.width * _FLOAT32
        return rows + self._batch(work, _WRITES_BUDGET) + labels, 0, 1.0

    def _batch(self, work: Workload, budget: int) -> int:
        """A pass of as many documents as a capture takes together: 64, or what fits the budget, or one."""
        one = pass_bytes(self._like, work.tokens)
        return max(one, min(budget, min(_TOGETHER, work.documents) * one))

    def report(self, work: Workload) -> tuple[int, int, float]:
        """A contribution report of all components at some positions of one text."""
        components = self.layers * (self.heads + 3)
        # A copy without a component goes through the blocks from its own on: half of them on average.
        beside = components * work.positions / work.tokens * (self.layers + 1) / (2 * self.layers)
        kept = work.positions * components * self.width * _FLOAT32
        keys = work.tokens * self.keys
        return pass_bytes(self._like, work.tokens) + keys + 4 * kept, 4 * 2**22 * 2, 1.0 + beside
