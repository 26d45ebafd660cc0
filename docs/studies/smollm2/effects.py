"""What each write of SmolLM2 adds to the log-probabilities of words, beside what its component writes on average.

One position a document. The write is replaced by its component's mean at that position, and the next token is predicted
anew: an exact ablation, in float32. All 330 heads, attentions and MLPs of a position are rows of one batch.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from docs.studies.smollm2.capture import read_corpus
from docs.studies.smollm2.writes import AllWrites, SiteWrites
from tl_nla.data.progress import told

LENGTH, ROWS = 56, 110


@dataclass(frozen=True)
class Effects:
    """One row a document.

    Attributes:
        writes: of every component, at the last token.
        clean: log-probability of each word as the next token.
        added: what each component's write adds to it beside its mean: ``[rows, components, words]``, half precision.
    """

    writes: AllWrites
    clean: Tensor
    added: Tensor

    def save(self, path: Path) -> None:
        """Write all of it as safetensors."""
        parts = {name: getattr(self.writes, name).contiguous() for name in AllWrites.__dataclass_fields__}
        save_file({**parts, "clean": self.clean, "added": self.added}, path)

    @classmethod
    def load(cls, path: Path) -> "Effects":
        """Read what was saved."""
        with safe_open(path, "pt") as file:
            writes = AllWrites(**{name: file.get_tensor(name) for name in AllWrites.__dataclass_fields__})
            return cls(writes, file.get_tensor("clean"), file.get_tensor("added"))


@dataclass(frozen=True)
class Means:
    """Mean write of each component, in model units.

    Attributes:
        heads: ``[layers, heads, d_model]``.
        mlp: ``[layers, d_model]``.
    """

    heads: Tensor
    mlp: Tensor

    @classmethod
    def of(cls, train: SiteWrites) -> "Means":
        """Of the training writes."""
        layers = range(len(train.out))
        heads = range(train.out[0].shape[1] // train.width)
        each = [[train[f"blocks.{layer}.attn.head.{head}"][1].mean(0) for head in heads] for layer in layers]
        mlp = [train[f"blocks.{layer}.mlp"][1].mean(0) for layer in layers]
        return cls(torch.stack([torch.stack(rows) for rows in each]), torch.stack(mlp))

    @property
    def attn(self) -> Tensor:
        """Of whole attentions."""
        return self.heads.sum(1)


class _Watched:
    """Keeps what the components write at the last token, and replaces some of it by what is asked for."""

    def __init__(self, model: Any) -> None:
        self.seen: dict[str, list[Tensor]] = defaultdict(list)
        self.change: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self.hooks = []
        for number, block in enumerate(model.model.layers):
            self.hooks.append(block.register_forward_pre_hook(self._before, with_kwargs=True))
            self.hooks.append(block.self_attn.o_proj.register_forward_hook(self._attention(number)))
            self.hooks.append(block.mlp.register_forward_hook(self._mlp(number)))

    def __enter__(self) -> "_Watched":
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def _before(self, _module: Any, args: Any, kwargs: Any) -> None:
        self.seen["before"].append((args[0] if args else kwargs["hidden_states"])[:, -1])

    def _attention(self, layer: int) -> Any:
        def hook(_module: Any, args: Any, output: Tensor) -> Tensor:
            self.seen["z"].append(args[0][:, -1])
            return self._changed(("attn", layer), output)

        return hook

    def _mlp(self, layer: int) -> Any:
        def hook(_module: Any, _args: Any, output: Tensor) -> Tensor:
            self.seen["mlp"].append(output[:, -1])
            return self._changed(("mlp", layer), output)

        return hook

    def _changed(self, part: tuple[str, int], output: Tensor) -> Tensor:
        if part not in self.change:
            return output
        row, added = self.change[part]
        output = output.clone()
        output[row, -1] += added
        return output


def cut(tokenizer: Any, texts: Sequence[str]) -> list[tuple[int, Tensor]]:
    """Token ids of those texts that are long enough, cut to one length behind a begin token, with their numbers."""
    rows = [torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"][: LENGTH - 1]]]) for text in texts]
    return [(number, row) for number, row in enumerate(rows) if row.shape[1] == LENGTH]


@torch.no_grad()
def capture_effects(
    model: Any, tokenizer: Any, corpus: Path, documents: tuple[int, int], means: Means, words: Tensor
) -> Effects:
    """Replace every write at the last token of some held-out documents.

    Args:
        model: the Hugging Face model, in float32.
        tokenizer: its tokenizer; its begin token is put before every text.
        corpus: folder of ``make corpus``.
        documents: first one of each kind of text, and the one behind the last.
        means: what is written instead.
        words: token ids of the words whose log-probabilities are kept.
    """
    parts: dict[str, list[Tensor]] = defaultdict(list)
    texts = read_corpus(corpus / "held_out.jsonl", documents[1], documents[0])
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(kind for kind, _, _ in texts))}
    with _Watched(model) as watched:
        for number, tokens in told(cut(tokenizer, [text for _, _, text in texts]), "leaving out writes"):
            kind = texts[number][0]
            past = model(tokens[:, :-1], use_cache=True).past_key_values
            watched.seen.clear()
            clean = model(tokens).logits[0, -1].log_softmax(-1)[words]
            for name in ("before", "z", "mlp"):
                parts[name].append(torch.stack(watched.seen[name], 1))
            out = [block.self_attn.o_proj.weight for block in model.model.layers]
            wanted = _replaced(parts["z"][-1][0], parts["mlp"][-1][0], out, means)
            added = [_added(model, watched, (tokens, past), wanted[first : first + ROWS], words)
                     for first in range(0, len(wanted), ROWS)]  # fmt: skip
            parts["clean"].append(clean[None])
            parts["added"].append((clean - torch.cat(added)).half()[None])
            parts["context"].append(tokens.flip(1)[:, :16])
            parts["document"].append(torch.tensor([number]))
            parts["kind"].append(torch.tensor([kinds[kind]]))
    joined = {name: torch.cat(values) for name, values in parts.items()}
    clean, added_all = joined.pop("clean"), joined.pop("added")
    return Effects(AllWrites(**joined), clean, added_all)


def _replaced(z: Tensor, mlp: Tensor, out: list[Tensor], means: Means) -> list[tuple[str, int, Tensor]]:
    """For all heads, attentions and MLPs, in this order: where the mean comes in, and what has to be added for it."""
    layers, heads = means.heads.shape[:2]
    found: list[tuple[str, int, Tensor]] = []
    for layer in range(layers):
        width = z.shape[1] // heads
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            found.append(("attn", layer, means.heads[layer, head] - out[layer][:, own] @ z[layer, own]))
    found += [("attn", layer, means.attn[layer] - out[layer] @ z[layer]) for layer in range(layers)]
    return found + [("mlp", layer, means.mlp[layer] - mlp[layer]) for layer in range(layers)]


def _added(
    model: Any, watched: _Watched, run: tuple[Tensor, Any], wanted: list[tuple[str, int, Tensor]], words: Tensor
) -> Tensor:
    """Log-probabilities of the words with each write replaced."""
    tokens, past = run
    own = copy.deepcopy(past)
    own.batch_repeat_interleave(len(wanted))
    watched.change = {}
    for part in dict.fromkeys((kind, layer) for kind, layer, _ in wanted):
        rows = [row for row, (kind, layer, _) in enumerate(wanted) if (kind, layer) == part]
        watched.change[part] = torch.tensor(rows), torch.stack([wanted[row][2] for row in rows])
    try:
        logits = model(tokens[:, -1:].expand(len(wanted), 1), past_key_values=own).logits[:, -1]
    finally:
        watched.change = {}
    return logits.log_softmax(-1)[:, words]
