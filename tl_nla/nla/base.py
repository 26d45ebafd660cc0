"""What every verbalizer shares: a causal language model whose prompt holds vectors, and one generation loop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.control import control_ids, refuse_control
from tl_nla.model.families import context_length
from tl_nla.nla.batching import check_room, evaluating, pad_right, tracked
from tl_nla.nla.beams import search_responses
from tl_nla.nla.generation import Prompts, Responses, Run, SamplingConfig, chunk_of, join_responses, respond
from tl_nla.nla.inputs import check_ids
from tl_nla.nla.output_head import contiguous_head
from tl_nla.nla.prompts import end_of_response


class VectorVerbalizer(nn.Module):
    """A causal language model that reads vectors inside its prompt and answers in words.

    :class:`tl_nla.nla.Verbalizer` reads states, :class:`tl_nla.oracle.WriteVerbalizer` reads writes. Each builds the
    embeddings of its own prompts; scoring and generation are here.

    Args:
        model: any Hugging Face causal language model, also one wrapped by PEFT.
        tokenizer: its tokenizer.

    Attributes:
        by_length: whether rows of similar length share a pass where there is a gradient, which saves tokens, or all
            rows do, which saves launches: the faster way for a small model on a GPU. Processes that hold shares of the
            weights have to make the same number of passes.
    """

    by_length = True

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.end_id = end_of_response(tokenizer)
        self._control = control_ids(tokenizer) | {self.end_id}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.get_input_embeddings().weight.device

    @property
    def pad_id(self) -> int:
        """Id that fills short rows."""
        pad = self.tokenizer.pad_token_id
        return self.end_id if pad is None else int(pad)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a response: the end tokens of chat, tokenizer and model."""
        named = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ids = [self.end_id, self.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
        return tuple(sorted({int(i) for i in ids if i is not None}))

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape width"]:
        """The model's own input embeddings, with the scale that its family gives them."""
        return self.model.get_input_embeddings()(ids.to(self.device))

    def response_logits(
        self, prompts: Float[Tensor, "n prompt width"], response_ids: Int[Tensor, "n pos"]
    ) -> Float[Tensor, "n pos vocab"]:
        """Logits with which each response token is predicted behind prompts of one length, teacher forced.

        Args:
            prompts: input embeddings.
            response_ids: right-padded; logits behind the last real token mean nothing.

        Raises:
            InputError: for ids outside of the vocabulary, or of another number than the prompts.
        """
        check_ids(response_ids, self.model.get_input_embeddings().weight.shape[0], "response ids")
        if len(response_ids) != len(prompts):
            raise InputError(f"{len(response_ids)} responses for {len(prompts)} vectors; give one a vector")
        embeddings = torch.cat([prompts, self.embed(response_ids).to(prompts)], 1)
        kept = response_ids.shape[1] + 1
        with contiguous_head(self.model):
            return self.model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=kept).logits[:, -kept:-1]

    def encode_rows(
        self, texts: Sequence[str], wrapped: list[str], prompt: int, around: Sequence[int] = ()
    ) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
        """Training targets with the end token, right-padded, and their mask.

        Raises:
            InputError: for a control token inside a text, or a text that is longer than the context.
        """
        rows = self.tokenizer(wrapped, add_special_tokens=False)["input_ids"]
        refuse_control(texts, rows, self.tokenizer, self._control, list(around))
        rows = [[*row, self.end_id] for row in rows]
        longest = max(range(len(rows)), key=lambda row: len(rows[row]))
        check_room(self.model, prompt, len(rows[longest]), texts[longest])
        return pad_right(rows, self.pad_id)

    def check_new_tokens(self, prompt: int, max_new_tokens: int) -> None:
        """Refuse a cap that does not fit behind the prompt.

        Raises:
            InputError: with what would fit.
        """
        limit = context_length(self.model)
        if limit is not None and prompt + max_new_tokens > limit:
            raise InputError(
                f"the prompt ({prompt} tokens) and max_new_tokens {max_new_tokens} exceed the model's context of "
                f"{limit}; at most {limit - prompt} new tokens fit"
            )

    @torch.no_grad()
    def respond(self, count: int, prompts: Callable[[slice], Prompts], sampling: SamplingConfig, run: Run) -> Responses:
        """Responses to ``count`` rows in batches, in evaluation mode and without gradient."""
        size = max(1, run.batch_size // (run.samples * sampling.beams))
        starts = range(0, count, size)
        chunks = tracked(starts, count, size, run.progress)
        parts = []

        def step(embeddings: Tensor, cache: Any) -> Tensor:
            output = self.model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return output.logits[:, -1]

        with evaluating(self), contiguous_head(self.model):
            embed = self.model.get_input_embeddings()
            for at in chunks:
                rows = prompts(slice(at, at + size))
                if sampling.beams > 1:
                    parts.append(search_responses(step, embed, rows, sampling, self.pad_id))
                    continue
                own = replace(run, generator=chunk_of(run.generator, at, at + size))
                parts.append(respond(step, embed, rows, sampling, self.pad_id, own))
        return join_responses(parts, self.pad_id)
