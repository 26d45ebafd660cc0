"""The activation reconstructor (AR): the first K + 1 blocks of a language model that read a text back into a vector."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from tl_nla.amounts import check_count
from tl_nla.data.progress import told
from tl_nla.errors import InputError
from tl_nla.metrics.norms import at_least_float32, scale_to_norm
from tl_nla.model.families import context_length
from tl_nla.nla.batching import check_room, evaluating, pad_right, similar_lengths
from tl_nla.nla.inputs import check_ids, check_texts
from tl_nla.nla.prompts import reconstructor_ids, suffix_ids


class ReconstructorBase(nn.Module):
    """What every reconstructor shares: a decoder that reads a text, a linear head, and batches of similar length.

    :class:`Reconstructor` gives states, :class:`tl_nla.oracle.WriteReconstructor` gives writes.

    Args:
        backbone: a decoder without its head, cut to the blocks that are used and with an identity final norm
            (:func:`cut_backbone`); may be wrapped by PEFT.
        tokenizer: its tokenizer.
        template: raw prompt with ``{explanation}``.
        suffix: ids that every prompt ends with; from the template when ``None``.
        special: whether prompts have the tokenizer's special tokens; see :func:`reconstructor_ids`.
        columns: outputs of the head; as many as the backbone is wide when ``None``.

    Attributes:
        by_length: whether rows of similar length share a pass where there is a gradient, which saves tokens, or all
            rows do. Processes that hold shares of the weights have to make the same number of passes.
    """

    by_length = True

    def __init__(
        self, backbone: nn.Module, tokenizer: Any, template: str, suffix: tuple[int, ...] | None = None,
        special: bool = True, columns: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone, self.tokenizer, self.template = backbone, tokenizer, template
        self.special = special
        embedding: Any = backbone.get_input_embeddings()  # type: ignore[operator]
        width = int(embedding.embedding_dim)
        # float32 whatever the backbone is: a bfloat16 diagonal near one cannot take up small updates.
        self.head = nn.Linear(width, columns or width, bias=False, device=embedding.weight.device, dtype=torch.float32)
        nn.init.eye_(self.head.weight)
        self.suffix = list(suffix) if suffix else suffix_ids(tokenizer, template, special)
        check_room(backbone, len(reconstructor_ids(tokenizer, template, [""], special)[0]))

    @property
    def device(self) -> torch.device:
        """Where the head is."""
        return self.head.weight.device

    def apply_head(self, states: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape columns"]:
        """The head on states of the backbone, in float32 at least, whatever either is stored in."""
        weight = self.head.weight
        if weight.dtype == states.dtype:
            return self.head(states)
        wide = torch.promote_types(torch.promote_types(weight.dtype, states.dtype), torch.float32)
        return linear(states.to(wide), weight.to(wide))

    def check_prompts(self, input_ids: Int[Tensor, "n pos"], attention_mask: Tensor) -> None:
        """Refuse prompts that cannot be read.

        Raises:
            InputError: see :meth:`forward`.
        """
        embedding: Any = self.backbone.get_input_embeddings()  # type: ignore[operator]
        check_ids(input_ids, embedding.weight.shape[0], "input ids")
        if attention_mask.shape != input_ids.shape:
            shapes = tuple(attention_mask.shape), tuple(input_ids.shape)
            raise InputError(f"attention_mask has shape {shapes[0]}, input_ids {shapes[1]}; give one number an id")
        check_padding(attention_mask)

    def states(self, input_ids: Int[Tensor, "n pos"]) -> Float[Tensor, "n pos width"]:
        """The backbone's last states at all positions of right-padded prompts, in float32 at least."""
        # Right padding cannot reach an earlier position of a causal model, so no mask is handed over.
        return at_least_float32(self.backbone(input_ids=input_ids, use_cache=False).last_hidden_state)

    @staticmethod
    def last_states(states: Float[Tensor, "n pos width"], attention_mask: Tensor) -> Float[Tensor, "n width"]:
        """The states at the last real token of each row."""
        last = attention_mask.long().sum(1) - 1
        return states[torch.arange(len(states), device=states.device), last]

    def encode(self, texts: Sequence[str]) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
        """Prompts of explanations, right-padded, with their mask.

        Raises:
            InputError: for an empty list or what is no list of texts, a prompt longer than the context, or one that
                lost its suffix (it was cut or merged away).
        """
        texts = check_texts(texts)
        rows = reconstructor_ids(self.tokenizer, self.template, texts, self.special)
        limit = context_length(self.backbone)
        for row, text in zip(rows, texts, strict=True):
            if limit is not None and len(row) > limit:
                raise InputError(
                    f"the prompt of {text[:40]!r}... has {len(row)} tokens, the context {limit}; shorten it"
                )
            if self.suffix and row[-len(self.suffix) :] != self.suffix:
                raise InputError(f"the prompt of {text[:40]!r} does not end in the template's suffix {self.suffix}")
        pad = self.tokenizer.pad_token_id
        return pad_right(rows, int(pad if pad is not None else (self.tokenizer.eos_token_id or 0)))

    @torch.no_grad()
    def in_batches(
        self, texts: Sequence[str], read: Callable[[Tensor, Tensor], Tensor], batch_size: int = 256
    ) -> Float[Tensor, "n columns"]:
        """What a function gives of the prompts of explanations, in order, on the CPU."""
        check_count("batch_size", batch_size)
        ids, mask = self.encode(texts)
        lengths = mask.sum(1)
        order = lengths.argsort()
        found = []
        with evaluating(self):
            for rows in told([rows.tolist() for rows in order.split(batch_size)], "reading words"):
                width = int(lengths[rows].max())
                found.append(read(ids[rows, :width].to(self.device), mask[rows, :width].to(self.device)).cpu())
        return torch.cat(found)[order.argsort()]


class Reconstructor(ReconstructorBase):
    """AR of an NLA.

    Args:
        backbone: as for :class:`ReconstructorBase`, like all that is not named here.
        rescale: L2 norm to which a state is brought before the head (EasyNLA, nanoNLA); as it is when ``None``.
            Without a bias in the head it changes the length of the vectors only.
    """

    def __init__(
        self, backbone: nn.Module, tokenizer: Any, template: str, suffix: tuple[int, ...] | None = None,
        special: bool = True, rescale: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(backbone, tokenizer, template, suffix, special)
        self.rescale = rescale

    def forward(self, input_ids: Int[Tensor, "n pos"], attention_mask: Tensor) -> Float[Tensor, "n d_model"]:
        """The vector read at each row's last real token.

        Args:
            input_ids: right-padded prompts.
            attention_mask: true (or 1) where a token is real.

        Returns:
            Vectors in float32; their length means nothing, only their direction was trained.

        Raises:
            InputError: when a row is not right-padded or has no token, or an id is outside of the vocabulary.
        """
        self.check_prompts(input_ids, attention_mask)
        state = self.last_states(self.states(input_ids), attention_mask)
        if self.rescale is not None:
            state = scale_to_norm(state, self.rescale)
        with torch.autocast(state.device.type, enabled=False):
            return self.apply_head(state)

    def read(self, texts: Sequence[str]) -> Float[Tensor, "n d_model"]:
        """Vectors of explanations with gradient, in order; texts of similar length share a pass."""
        ids, mask = self.encode(texts)
        groups = similar_lengths(mask.sum(1)) if self.by_length else [torch.arange(len(ids))]
        widths = [int(mask[rows].sum(1).max()) for rows in groups]
        parts = [self(ids[rows, :width].to(self.device), mask[rows, :width].to(self.device))
                 for rows, width in zip(groups, widths, strict=True)]  # fmt: skip
        return torch.cat(parts)[torch.cat(groups).argsort().to(self.device)]

    @torch.no_grad()
    def reconstruct(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "n d_model"]:
        """Vectors of explanations, in order, on the CPU; texts of similar length share a batch."""
        return self.in_batches(texts, self, batch_size)


def check_padding(attention_mask: Tensor) -> None:
    """Refuse prompts that are padded anywhere but behind the text.

    Raises:
        InputError: when a row is not right-padded or has no token.
    """
    real = attention_mask.bool()
    if not real[:, 0].all() or (real[:, 1:] & ~real[:, :-1]).any():
        raise InputError("the reconstructor needs right-padded rows of at least one token; pad behind the text")
