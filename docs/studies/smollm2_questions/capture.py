"""Writes of a few heads of SmolLM2 with mechanical truths: what was read, what is promoted, how large the effect is."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from docs.studies.smollm2.capture import read_corpus
from tl_nla.data.progress import told

LENGTH, WINDOWS, BATCH = 48, 3, 16
HEADS, SURVEYED, FLOOR = 8, 192, 0.15
KINDS = ("attended", "promoted", "suppressed", "skip")
"""Truths of a write: the token that it read most, the word that it makes likelier and the one that it makes less likely
by itself, and by how much the prediction changes when the write is replaced by its head's mean (a KL divergence)."""


@dataclass(frozen=True)
class Writes:
    """One row a write.

    Attributes:
        heads: layer and head of each component.
        head: which of them wrote.
        vector: the write minus its head's mean, in model units.
        answer: token ids of the truths of ``KINDS`` but the last, -1 where there is none.
        effect: nats of the last one.
        offset: how far back the attended token stands.
        last: the token at the position.
        guess: the likeliest next token.
        document: number of the document.
    """

    heads: tuple[tuple[int, int], ...]
    head: Tensor
    vector: Tensor
    answer: Tensor
    effect: Tensor
    offset: Tensor
    last: Tensor
    guess: Tensor
    document: Tensor

    def __len__(self) -> int:
        return len(self.head)

    def save(self, path: Path) -> None:
        """Write all of it as safetensors."""
        tensors = {field.name: getattr(self, field.name).contiguous() for field in fields(self)[1:]}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, metadata={"heads": json.dumps(self.heads)})

    @classmethod
    def load(cls, path: Path) -> "Writes":
        """Read what was saved."""
        with safe_open(path, "pt") as file:
            heads = tuple((layer, head) for layer, head in json.loads(file.metadata()["heads"]))
            return cls(heads, **{field.name: file.get_tensor(field.name) for field in fields(cls)[1:]})


@dataclass(frozen=True)
class Survey:
    """Heads that are worth asking about, and what each writes on average before the out-projection."""

    heads: tuple[tuple[int, int], ...]
    mean: Tensor


def windows(tokenizer: Any, corpus: Path, side: str, each: int, many: int) -> tuple[Tensor, Tensor]:
    """Pieces of equal length of the corpus's documents, with the number of the document of each."""
    rows, numbers = [], []
    for number, (_, _, text) in enumerate(read_corpus(corpus / f"{side}.jsonl", each)):
        ids = tokenizer(text)["input_ids"]
        for start in range(0, (LENGTH - 1) * many, LENGTH - 1):
            piece = ids[start : start + LENGTH - 1]
            if len(piece) == LENGTH - 1:
                rows.append([tokenizer.bos_token_id, *piece])
                numbers.append(number)
    return torch.tensor(rows), torch.tensor(numbers)


def whole_words(tokenizer: Any, size: int, tokens: Tensor, least: int = 3) -> Tensor:
    """Which tokens are words with a space in front, two letters or more, that occur so often in some texts."""
    common = torch.bincount(tokens.flatten(), minlength=size) >= least
    for token in torch.nonzero(common).flatten().tolist():
        text = tokenizer.decode([token])
        common[token] = text[:1] == " " and text[1:].isalpha() and text.isascii() and len(text) > 2
    return common


@torch.no_grad()
def survey(model: Any, tokens: Tensor, words: Tensor) -> Survey:
    """The heads that most often read a word, not always the same, further back than the last two tokens.

    A layer gives two of them at most.

    Args:
        model: the Hugging Face model with spelled-out attention.
        tokens: training texts.
        words: tokens that may be named.
    """
    seen, hooks = dict[int, Tensor](), []
    for number, block in enumerate(model.model.layers):
        hooks.append(block.self_attn.o_proj.register_forward_pre_hook(_keep(seen, number)))
    named, total = [], []
    try:
        for first in range(0, min(SURVEYED, len(tokens)), BATCH):
            some = tokens[first : first + BATCH]
            looked = torch.stack(model.model(some, output_attentions=True).attentions)[:, :, :, -1]
            share, place = _top(looked)
            token = some.expand(len(looked), -1, -1).gather(2, place)
            named.append(torch.where((share >= FLOOR) & (place < LENGTH - 2) & words[token], token, -1))
            total.append(torch.stack([seen[layer][:, -1].float().mean(0) for layer in range(len(looked))]))
    finally:
        for hook in hooks:
            hook.remove()
    found = torch.cat(named, 1)
    varied = torch.stack([torch.stack([_varied(found[layer, :, head]) for head in range(found.shape[2])])
                          for layer in range(len(found))])  # fmt: skip
    heads: list[tuple[int, int]] = []
    for number in varied.flatten().argsort(descending=True).tolist():
        layer, head = divmod(number, varied.shape[1])
        if len(heads) < HEADS and sum(one == layer for one, _ in heads) < 2:
            heads.append((layer, head))
    mean, width = torch.stack(total).mean(0), seen[0].shape[-1] // varied.shape[1]
    own = torch.stack([mean[layer, head * width : (head + 1) * width] for layer, head in heads])
    return Survey(tuple(heads), own)


def _varied(token: Tensor) -> Tensor:
    """How many rows name a word that is not the most frequent one."""
    own = token[token >= 0]
    return len(own) - torch.bincount(own).max() if len(own) else torch.tensor(0)


def _keep(seen: dict[int, Tensor], layer: int) -> Any:
    def hook(_module: Any, args: Any) -> None:
        seen[layer] = args[0]

    return hook


def _top(looked: Tensor) -> tuple[Tensor, Tensor]:
    """Share and place of the token that is read most, the begin token left out."""
    best = looked[..., 1:].float().max(-1)
    return best.values, best.indices + 1


class _Replaced:
    """Replaces one head's write a row at the last token; rows of a text are itself and one a head."""

    def __init__(self, model: Any, known: Survey) -> None:
        self.known, self.written, self.hooks, self.on = known, dict[int, Tensor](), list[Any](), False
        for layer in {layer for layer, _ in known.heads}:
            out = model.model.layers[layer].self_attn.o_proj
            self.hooks.append(out.register_forward_hook(self._hook(layer, out.weight.float())))

    def _hook(self, layer: int, weight: Tensor) -> Any:
        group = len(self.known.heads) + 1

        def hook(_module: Any, args: Any, output: Tensor) -> Tensor:
            if not self.on:
                return output
            z, output = args[0][:, -1].float().view(-1, group, weight.shape[1]), output.clone()
            grouped = output[:, -1].view(-1, group, weight.shape[0])
            for number, (own, head) in enumerate(self.known.heads):
                if own == layer:
                    width = self.known.mean.shape[1]
                    columns = slice(head * width, (head + 1) * width)
                    vector = (z[:, 0, columns] - self.known.mean[number]) @ weight[:, columns].T
                    self.written[number] = vector
                    grouped[:, number + 1] -= vector.to(output.dtype)
            return output

        return hook


@torch.no_grad()
def capture(models: tuple[Any, Any], tokens: Tensor, document: Tensor, known: Survey, words: Tensor) -> Writes:
    """Read the writes of all texts at their last token, and what leaving each out changes.

    Args:
        models: the Hugging Face model with spelled-out attention twice. One reads what stands before the last token.
            The other one, in float32, reads the last token: effects are smaller than the rounding of bfloat16.
        tokens: texts of equal length.
        document: of each text.
        known: heads and their means.
        words: tokens that may be named.
    """
    (early, model), count, group = models, len(known.heads), len(known.heads) + 1
    read_out = model.lm_head.weight.float() * model.model.norm.weight.float()
    barred = torch.zeros(len(words)).masked_fill(~words, float("inf"))
    parts: dict[str, list[Tensor]] = {field.name: [] for field in fields(Writes)[1:]}
    watched = _Replaced(model, known)
    try:
        for (start,) in told([[start] for start in range(0, len(tokens), BATCH)], "reading writes"):
            some = tokens[start : start + BATCH]
            watched.on = False
            past = early.model(some[:, :-1], use_cache=True).past_key_values
            for layer in past.layers:
                layer.keys, layer.values = layer.keys.float(), layer.values.float()
            past.batch_repeat_interleave(group)
            watched.on = True
            found = model(some[:, -1:].repeat_interleave(group, 0), past_key_values=past, output_attentions=True)
            logs = found.logits[:, -1].float().log_softmax(-1).view(len(some), group, -1)
            vector = torch.stack([watched.written[number] for number in range(count)], 1)
            direct = vector @ read_out.T
            looked = [found.attentions[layer][::group, head, -1] for layer, head in known.heads]
            share, place = (torch.stack(side, 1) for side in zip(*(_top(one) for one in looked), strict=True))
            read = some.gather(1, place)
            read = torch.where((share >= FLOOR) & words[read], read, -1)
            parts["answer"].append(torch.stack([read, (direct - barred).argmax(-1), (direct + barred).argmin(-1)], -1))
            parts["effect"].append((logs[:, :1].exp() * (logs[:, :1] - logs[:, 1:])).sum(-1))
            parts["vector"].append(vector)
            parts["offset"].append(LENGTH - 1 - place)
            parts["head"].append(torch.arange(count).expand(len(some), count))
            rest = {"last": some[:, -1], "guess": logs[:, 0].argmax(-1), "document": document[start : start + BATCH]}
            for name, value in rest.items():
                parts[name].append(value[:, None].expand(len(some), count))
    finally:
        for hook in watched.hooks:
            hook.remove()
    return Writes(known.heads, **{name: torch.cat(values).flatten(0, 1) for name, values in parts.items()})
