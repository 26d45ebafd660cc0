"""What every head, attention, MLP and block of SmolLM2 writes at drawn positions of the corpus, kept compactly.

A head's write is its 64 values before the out-projection, so one row of all 270 heads takes 34 kilobytes.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from docs.studies.smollm2.capture import CONTEXT, read_corpus
from tl_nla.data.progress import told

TOKENS, POSITIONS, FIRST, BATCH = 128, 24, 20, 8


@dataclass(frozen=True)
class AllWrites:
    """Rows of one side of the split, a row a position, bfloat16.

    Attributes:
        z: values of all heads before the out-projection, by layer.
        before: the state before each block.
        mlp: what each MLP writes.
        context: token ids, the position's own first.
        document: number of the document.
        kind: number of the kind of text.
    """

    z: Tensor
    before: Tensor
    mlp: Tensor
    context: Tensor
    document: Tensor
    kind: Tensor

    def save(self, path: Path) -> None:
        """Write all of it as safetensors."""
        save_file({name: getattr(self, name).contiguous() for name in self.__dataclass_fields__}, path)

    def every(self, step: int) -> "AllWrites":
        """One row of so many."""
        return AllWrites(**{name: getattr(self, name)[::step].clone() for name in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: Path) -> "AllWrites":
        """Read what was saved."""
        with safe_open(path, "pt") as file:
            return cls(**{name: file.get_tensor(name) for name in cls.__dataclass_fields__})


@torch.no_grad()
def capture_all(model: Any, tokenizer: Any, corpus: Path, name: str, first: int, end: int) -> AllWrites:
    """Read a Hugging Face model of the Llama family on the first piece of some documents of each kind.

    Args:
        model: it is run in the precision that it has.
        tokenizer: its tokenizer; its begin token is put before every text.
        corpus: folder of ``make corpus``.
        name: ``"train"`` or ``"held_out"``.
        first: of the documents of a kind, in the order of their hashes.
        end: behind the last one.
    """
    seen: dict[tuple[str, int], Tensor] = {}
    hooks = []
    for number, block in enumerate(model.model.layers):
        hooks.append(block.self_attn.o_proj.register_forward_pre_hook(_keep_input(seen, "z", number)))
        hooks.append(block.mlp.register_forward_hook(_keep_output(seen, "mlp", number)))
        hooks.append(block.register_forward_pre_hook(_keep_input(seen, "before", number), with_kwargs=True))
    generator = torch.Generator().manual_seed(0)
    parts: dict[str, list[Tensor]] = defaultdict(list)
    kinds: dict[str, int] = {}
    documents = read_corpus(corpus / f"{name}.jsonl", end, first)
    batches = [documents[start : start + BATCH] for start in range(0, len(documents), BATCH)]
    done = 0
    try:
        for batch in told(batches, f"reading {name} documents"):
            rows = [(kind, [tokenizer.bos_token_id, *tokenizer(text)["input_ids"][: TOKENS - 1]])
                    for kind, _, text in batch]  # fmt: skip
            rows = [(kind, ids) for kind, ids in rows if len(ids) == TOKENS]
            if not rows:
                continue
            ids = torch.tensor([ids for _, ids in rows])
            model.model(ids)
            drawn = [torch.randperm(TOKENS - FIRST, generator=generator)[:POSITIONS] + FIRST for _ in rows]
            places = torch.stack(drawn).sort(1).values
            row = torch.arange(len(rows))[:, None]
            for part in ("z", "before", "mlp"):
                layers = range(len(model.model.layers))
                parts[part].append(torch.stack([seen[part, layer][row, places] for layer in layers], 2).flatten(0, 1))
            context = torch.stack([ids[row, places - back] for back in range(CONTEXT)], 2)
            parts["context"].append(context.flatten(0, 1))
            parts["document"].append((torch.arange(len(rows)) + done).repeat_interleave(POSITIONS))
            number = torch.tensor([kinds.setdefault(kind, len(kinds)) for kind, _ in rows])
            parts["kind"].append(number.repeat_interleave(POSITIONS))
            done += len(rows)
    finally:
        for hook in hooks:
            hook.remove()
    return AllWrites(**{name: torch.cat(value) for name, value in parts.items()})


def _keep_input(seen: dict[tuple[str, int], Tensor], part: str, layer: int) -> Any:
    def hook(_module: Any, args: Any, kwargs: Any = None) -> None:
        seen[part, layer] = args[0] if args else kwargs["hidden_states"]

    return hook


def _keep_output(seen: dict[tuple[str, int], Tensor], part: str, layer: int) -> Any:
    def hook(_module: Any, _args: Any, output: Tensor) -> None:
        seen[part, layer] = output

    return hook


class SiteWrites(Mapping[str, tuple[Tensor, Tensor]]):
    """States before and writes of each site, computed when they are asked for.

    Args:
        rows: captured.
        out: weight of the out-projection of each layer: ``[d_model, heads · d_head]``.
        sites: that there are; all heads, attentions, MLPs and blocks when ``None``.
    """

    def __init__(self, rows: AllWrites, out: list[Tensor], sites: tuple[str, ...] | None = None) -> None:
        self.rows, self.out = rows, out
        self.width = 64
        layers = range(len(out))
        count = out[0].shape[1] // self.width
        heads = [f"blocks.{layer}.attn.head.{head}" for layer in layers for head in range(count)]
        whole = [f"blocks.{layer}{part}" for part in (".attn", ".mlp", "") for layer in layers]
        self.sites = sites or (*heads, *whole)

    def __len__(self) -> int:
        return len(self.sites)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sites)

    def __getitem__(self, site: str) -> tuple[Tensor, Tensor]:
        _, layer, *part = site.split(".")
        number = int(layer)
        before, z, out = self.rows.before[:, number].float(), self.rows.z[:, number].float(), self.out[number]
        if part[:2] == ["attn", "head"]:
            columns = slice(int(part[2]) * self.width, (int(part[2]) + 1) * self.width)
            return before, z[:, columns] @ out[:, columns].T
        attention, mlp = z @ out.T, self.rows.mlp[:, number].float()
        if part == ["attn"]:
            return before, attention
        return (before + attention, mlp) if part == ["mlp"] else (before, attention + mlp)


def corpus_counts(tokenizer: Any, corpus: Path, size: int, every: int = 3) -> Tensor:
    """How often each token occurs in every third piece of the training documents."""
    counts = torch.zeros(size, dtype=torch.long)
    with (corpus / "train.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % every == 0:
                counts += torch.bincount(torch.tensor(tokenizer(json.loads(line)["text"])["input_ids"]), minlength=size)
    return counts
