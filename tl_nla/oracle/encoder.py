"""A fitted encoder in front of a verbalizer: from (state before, write) to the words that were probably read."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tl_nla.errors import InputError
from tl_nla.metrics.norms import at_least_float32, scale_to_norm
from tl_nla.model.files import read_safetensors
from tl_nla.oracle.residual import ResidualBlock
from tl_nla.outputs import check_file
from tl_nla.paths import user_path

_RARE = -5.0
_BLOCKS = 2
_NAMED = 3
MOST_SLOTS = 1 + _NAMED
"""How many embeddings an encoder gives a verbalizer at most."""


class SourceEncoder(nn.Module):
    """Tells from a state and a write which words were probably read, and says so in a verbalizer's own embeddings.

    A verbalizer learns where heads looked from a few ten thousand answers, one word after the other. Head sources are
    so cheap to label (:func:`tl_nla.oracle.labels.head_sources`) that an encoder can be shown millions, all words of
    an answer at once. What it tells enters the verbalizer behind the state and the write: the sum of the words'
    embeddings, each times the probability that it was read, then the embeddings of the most probable words
    themselves. None of the published oracles has such slots.

    Args:
        words: that the encoder knows.
        embeddings: the verbalizer's embeddings of them; kept as they are.
        d_act: size of the vectors.
        hidden: width of its two residual blocks.

    Raises:
        InputError: when there is no word, not one embedding a word, or no width.
    """

    embeddings: Tensor

    def __init__(self, words: Sequence[str], embeddings: Float[Tensor, "words width"], d_act: int, hidden: int) -> None:
        super().__init__()
        if hidden < 1 or not len(words) == len(embeddings) > 0:
            raise InputError(
                f"hidden is {hidden}, there are {len(words)} words and {len(embeddings)} embeddings; at least 1 of "
                "each and an embedding for every word are needed"
            )
        self.words, self.d_act = tuple(words), d_act
        self.first = nn.Linear(2 * d_act, hidden)
        self.blocks = nn.ModuleList(ResidualBlock(hidden, hidden) for _ in range(_BLOCKS))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, len(embeddings))
        nn.init.constant_(self.out.bias, _RARE)
        self.register_buffer("embeddings", embeddings.detach().float().clone())

    def forward(self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"]) -> Float[Tensor, "n words"]:
        """Logits of each word's having been read, in float32 at least; magnitudes do not enter."""
        size = self.d_act**0.5
        vectors = torch.cat([scale_to_norm(before, size), scale_to_norm(write, size)], 1)
        hidden = self.first(vectors.to(self.first.weight.dtype))
        for block in self.blocks:
            hidden = block(hidden)
        return at_least_float32(self.out(self.norm(hidden)))

    @property
    def slots(self) -> int:
        """How many embeddings it gives a verbalizer."""
        return 1 + min(_NAMED, len(self.words))

    def embed(self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"]) -> Float[Tensor, "n slot width"]:
        """What enters the verbalizer: all words weighed by their probabilities, then the three most probable ones."""
        share = self(before, write).sigmoid()
        best = share.topk(self.slots - 1, dim=1).indices
        return torch.cat([(share.to(self.embeddings) @ self.embeddings)[:, None], self.embeddings[best]], 1)

    @torch.no_grad()
    def name(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], count: int = 3
    ) -> list[list[str]]:
        """The words that were most probably read, without any verbalizer.

        Args:
            before: states that the writes are added to.
            write: the writes.
            count: how many words are named for each.
        """
        best = self(before, write).topk(min(count, len(self.words)), dim=1).indices.tolist()
        return [[self.words[word] for word in row] for row in best]

    def loss(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], words: Int[Tensor, "n k"]
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy summed over words, mean over rows, in nats.

        Args:
            before: states that the writes are added to.
            write: the writes.
            words: numbers of the words that were read; -1 where there are fewer than ``k``.
        """
        logits = self(before, write)
        known = logits.shape[1]
        places = torch.where(words < 0, known, words)
        right = logits.new_zeros(len(words), known + 1).scatter_(1, places, 1.0)[:, :known]
        return binary_cross_entropy_with_logits(logits, right, reduction="sum") / len(words)

    def save(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write everything to one safetensors file.

        Args:
            path: of the file.
            dtype: of what is written, float32 when ``None``; it is loaded as float32 again.
        """
        kept = dtype or torch.float32
        state = {name: value.detach().to("cpu", kept).contiguous() for name, value in self.state_dict().items()}
        save_file(state, check_file(path), metadata={"words": json.dumps(self.words)})

    @classmethod
    def load(cls, path: str | Path) -> "SourceEncoder":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: when the file is missing or damaged, or holds something else.
        """
        state = {name: value.float() for name, value in read_safetensors(path).items()}
        try:
            hidden, inputs = state["first.weight"].shape
            with safe_open(user_path(path), "pt") as file:
                words = json.loads(file.metadata()["words"])
            made = cls(words, state["embeddings"], inputs // 2, hidden)
            made.load_state_dict(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no encoder of sources: {' '.join(str(error).split())[:200]}") from error
        return made.requires_grad_(False).eval()
