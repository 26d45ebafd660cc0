"""The reconstructor of a diff oracle: from an explanation to a write, its size included."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.metrics.norms import at_least_float32, log_norm
from tl_nla.nla.reconstructor import ReconstructorBase
from tl_nla.oracle.refinement import Refinement


class WriteReconstructor(ReconstructorBase):
    """A reconstructor of writes: its head has one more output, the standardised logarithm of the norm.

    Args:
        backbone: a decoder without its head (:func:`tl_nla.model.cut.cut_backbone`).
        tokenizer: its tokenizer.
        template: raw prompt with ``{explanation}``.
        d_act: size of the writes; that of the backbone when ``None``.

    Attributes:
        refinement: corrects what the head reads; ``None`` where there is none (:meth:`add_refinement`).
    """

    log_norm_mean: Tensor
    log_norm_std: Tensor

    def __init__(self, backbone: Any, tokenizer: Any, template: str, d_act: int | None = None) -> None:
        size = d_act or int(backbone.get_input_embeddings().embedding_dim)
        super().__init__(backbone, tokenizer, template, columns=size + 1)
        self.d_act = size
        with torch.no_grad():
            self.head.weight[-1] = 0.0  # the magnitude starts at its mean
        self.register_buffer("log_norm_mean", torch.zeros(()))
        self.register_buffer("log_norm_std", torch.ones(()))
        self.refinement: Refinement | None = None

    def add_refinement(self, hidden: int) -> Refinement:
        """Put a network behind the head that corrects its reading; before training it corrects nothing.

        Args:
            hidden: width of the network.
        """
        return self.use_refinement(Refinement(self.head.in_features, self.d_act, hidden))

    def use_refinement(self, refinement: Refinement) -> Refinement:
        """Put this network behind the head.

        Raises:
            InputError: when it is for backbones or writes of another size.
        """
        sizes = self.head.in_features, self.d_act
        if (refinement.width, refinement.d_act) != sizes:
            found = f"{refinement.width} states and writes of size {refinement.d_act}"
            raise InputError(f"the refinement is for {found}, the reconstructor has {sizes[0]} and {sizes[1]}")
        self.refinement = refinement.to(self.device)
        return self.refinement

    @torch.no_grad()
    def fit(self, write: Float[Tensor, "n d_act"]) -> None:
        """Take mean and spread of the log norm from training writes."""
        logs = log_norm(write)
        self.log_norm_mean.copy_(logs.mean())
        self.log_norm_std.copy_(logs.std(correction=0).clamp_min(1e-3))

    def forward(
        self, input_ids: Int[Tensor, "n pos"], attention_mask: Tensor
    ) -> tuple[Float[Tensor, "n d_act"], Float[Tensor, " n"]]:
        """Direction (of any length) and standardised log norm of each write."""
        out = self.read(self.ends(input_ids, attention_mask))
        return out[:, : self.d_act], out[:, self.d_act]

    def ends(self, input_ids: Int[Tensor, "n pos"], attention_mask: Tensor) -> Float[Tensor, "n both"]:
        """Of each prompt the last state of the backbone, then the mean of all its states."""
        self.check_prompts(input_ids, attention_mask)
        return self._ends(self.states(input_ids), attention_mask)

    def _ends(self, states: Float[Tensor, "n pos width"], mask: Tensor) -> Float[Tensor, "n both"]:
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.cat([self.last_states(states, mask), mean], 1)

    def read(self, ends: Float[Tensor, "n both"], refined: bool = True) -> Float[Tensor, "n d_act_and_size"]:
        """Directions and standardised log norms.

        Args:
            ends: of each prompt (:meth:`ends`).
            refined: use the refinement, where there is one.
        """
        with torch.autocast(ends.device.type, enabled=False):
            out = self.apply_head(ends.chunk(2, dim=1)[0])
            return self.refinement(ends, out) if refined and self.refinement is not None else out

    def read_loss(self, read: Float[Tensor, "n d_act_and_size"], write: Float[Tensor, "n d_act"]) -> Float[Tensor, ""]:
        """Squared error of directions normalised to sqrt(d) (0 to 4) plus that of the standardised log norm."""
        truth = at_least_float32(write.to(read.device))
        wanted = ((log_norm(truth) - self.log_norm_mean) / self.log_norm_std).clamp(-4, 4)
        error = (normalise(read[:, : self.d_act]) - normalise(truth)).square().mean(-1)
        return error.mean() + (read[:, self.d_act] - wanted).square().mean()

    def loss(
        self, texts: Sequence[str], write: Float[Tensor, "n d_act"], prefix_weight: float = 1.0
    ) -> Float[Tensor, ""]:
        """Squared error of directions normalised to sqrt(d) (0 to 4) plus that of the standardised log norm.

        Args:
            texts: explanations.
            write: the right writes.
            prefix_weight: weight of the mean error of the directions that every prefix of a prompt gives: texts
                that are cut short then read as what they say so far, and small reconstructors learn a little faster.
        """
        return self.loss_of_prompts(*self.encode(texts), write, prefix_weight)

    def loss_of_prompts(
        self, input_ids: Int[Tensor, "n pos"], attention_mask: Bool[Tensor, "n pos"], write: Float[Tensor, "n d_act"],
        prefix_weight: float = 1.0,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """The same loss on prompts that are encoded already."""
        device = self.device
        ids, mask = input_ids.to(device), attention_mask.to(device)
        states = self.states(ids)
        loss = self.read_loss(self.read(self._ends(states, mask)), write)
        if prefix_weight:
            truth = normalise(at_least_float32(write.to(device)))[:, None]
            out = self.apply_head(states)
            errors = (normalise(out[..., : self.d_act]) - truth).square().mean(-1)
            rows, last = torch.arange(len(ids), device=device), mask.long().sum(1) - 1
            # no boolean index: it would make a GPU wait for the count
            before = mask.index_put((rows, last), torch.zeros((), dtype=torch.bool, device=device))
            loss = loss + prefix_weight * (errors * before).sum() / before.sum()
        return loss

    @torch.no_grad()
    def reconstruct(
        self, texts: Sequence[str], batch_size: int = 256, refined: bool = True
    ) -> Float[Tensor, "n d_act"]:
        """Writes read back from explanations, in model units, on the CPU.

        Args:
            texts: explanations.
            batch_size: texts of similar length that share a pass.
            refined: use the refinement, where there is one; without it the linear head's reading.

        Raises:
            InputError: for an empty list, or a text that does not fit the context.
        """
        out = self.in_batches(texts, lambda ids, mask: self.read(self.ends(ids, mask), refined), batch_size)
        direction, size = out[:, : self.d_act], out[:, self.d_act].clamp(-4, 4)
        norm = (self.log_norm_mean.cpu() + self.log_norm_std.cpu() * size).exp()
        return normalise(direction) / self.d_act**0.5 * norm[:, None]
