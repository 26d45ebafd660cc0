"""The activation verbalizer (AV): a causal language model that reads a vector and writes its explanation."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.nla.families import decoder_layers
from tl_nla.nla.generation import Responses, SamplingConfig, join_responses, respond
from tl_nla.nla.injection import Injection, InjectionConfig, add_at_norm
from tl_nla.nla.prompts import CLOSE, VerbalizerPrompt, extract_explanation, wrap_explanation

_ADDITIVE_BLOCK = 1
"""Block after which additive injection happens (Karvonen et al.: ``hook_onto_layer=1``)."""


@dataclass(frozen=True)
class Generation:
    """Explanations with their tokens; see :class:`tl_nla.nla.generation.Responses`.

    Attributes:
        texts: the explanations; the unfinished response as it stands where none could be extracted.
        extracted: rows whose response held a closed explanation within the cap.
        responses: tokens, mask and log-probabilities.
    """

    texts: list[str]
    extracted: Bool[Tensor, " n"]
    responses: Responses


class Verbalizer(nn.Module):
    """AV of an NLA.

    Args:
        model: any Hugging Face causal language model.
        tokenizer: its tokenizer.
        prompt: the tokenised prompt.
        injection: how vectors enter.
        d_act: size of the vectors; that of the model when ``None``.
    """

    def __init__(self, model: Any, tokenizer: Any, prompt: VerbalizerPrompt, injection: InjectionConfig) -> None:
        super().__init__()
        self.model, self.tokenizer, self.prompt = model, tokenizer, prompt
        self.d_model = int(model.get_input_embeddings().embedding_dim)
        self.injection = Injection(injection, self.d_model)
        if injection.slots != len(prompt.places):
            raise InputError(f"injection has {injection.slots} slots, the prompt {len(prompt.places)}; make them equal")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def prompt_embeddings(self, acts: Float[Tensor, "n d_model"]) -> Float[Tensor, "n pos d_model"]:
        """Input embeddings of the prompt with the vectors in their slots (unchanged for additive injection)."""
        ids = torch.tensor([self.prompt.ids], device=self.device)
        embeddings = self.model.get_input_embeddings()(ids).expand(len(acts), -1, -1)
        if not self.injection.replaces_embedding:
            return embeddings
        first, last = self.prompt.places[0], self.prompt.places[-1]
        vectors = self.injection(acts.to(self.device)).to(embeddings)
        return torch.cat([embeddings[:, :first], vectors, embeddings[:, last + 1 :]], 1)

    def forward(
        self, acts: Float[Tensor, "n d_model"], response_ids: Int[Tensor, "n pos"],
        response_mask: Tensor | None = None,  # noqa: ARG002  (right padding needs no mask in a causal model)
    ) -> Float[Tensor, "n pos vocab"]:  # fmt: skip
        """Logits with which the verbalizer predicts each response token, teacher forced.

        Args:
            acts: vectors to explain.
            response_ids: right-padded responses.
            response_mask: true where a response token is real; rows behind it mean nothing.
        """
        responses = self.model.get_input_embeddings()(response_ids.to(self.device))
        prompt = self.prompt_embeddings(acts)
        with self._adding(acts, 0):
            output = self.model(inputs_embeds=torch.cat([prompt, responses], 1), use_cache=False)
        return output.logits[:, prompt.shape[1] - 1 : -1]

    def encode_responses(self, texts: list[str]) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
        """Training targets: each explanation between its tags, then the end token; right-padded with a mask."""
        end = self.tokenizer.eos_token_id
        rows = [self.tokenizer.encode(self.wrap(text), add_special_tokens=False) + [end] for text in texts]
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.pad_id] * (width - len(row)) for row in rows])
        mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
        return ids, mask

    def wrap(self, text: str) -> str:
        """The response for an explanation; without line breaks where the close tag is a single token."""
        if len(self.tokenizer.encode(CLOSE, add_special_tokens=False)) == 1:
            return wrap_explanation(text).replace("\n", "")
        return wrap_explanation(text)

    @property
    def pad_id(self) -> int:
        """Id that fills short rows."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    @torch.no_grad()
    def generate(
        self, acts: Float[Tensor, "n d_model"], max_new_tokens: int = 150, temperature: float = 0.0,
        generator: torch.Generator | None = None, batch_size: int = 256, progress: bool = False,
    ) -> Generation:  # fmt: skip
        """Explain vectors.

        Args:
            acts: vectors ``[n, d_model]``, finite.
            max_new_tokens: cap of a response.
            temperature: 0 is greedy.
            generator: of the samples.
            batch_size: rows generated at once.
            progress: show a progress bar on the terminal.

        Raises:
            InputError: when there is no vector, its size is wrong, or it holds NaN or infinity.
        """
        check_acts(acts, self.d_model)
        sampling = SamplingConfig(max_new_tokens, temperature, self._end_ids())
        starts = range(0, len(acts), batch_size)
        chunks = _tracked(starts, len(acts), batch_size) if progress else iter(starts)
        training = self.training
        self.eval()
        try:
            parts = [self._respond(acts[start : start + batch_size], sampling, generator) for start in chunks]
        finally:
            self.train(training)
        responses = join_responses(parts, self.pad_id)
        raw = [self.tokenizer.decode(ids[mask]) for ids, mask in zip(responses.ids, responses.mask, strict=True)]
        found = [extract_explanation(text) for text in raw]
        ok = torch.tensor([text is not None for text in found]) & responses.finished.cpu()
        texts = [whole if text is None else text for whole, text in zip(raw, found, strict=True)]
        return Generation(texts, ok, responses)

    def _end_ids(self) -> tuple[int, ...]:
        close = self.tokenizer.encode(CLOSE, add_special_tokens=False)
        own = [self.tokenizer.eos_token_id] + (close if len(close) == 1 else [])
        return tuple(i for i in own if i is not None)

    def _respond(self, acts: Tensor, sampling: SamplingConfig, generator: torch.Generator | None) -> Responses:
        prompt = self.prompt_embeddings(acts)
        first = self.prompt.places[0]

        def step(embeddings: Tensor, cache: Any) -> Tensor:
            output = self.model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return output.logits[:, -1]

        return respond(
            step, self.model.get_input_embeddings(), prompt[:1, :first], prompt[:, first:], sampling, self.pad_id,
            generator, on_own=lambda: self._adding(acts, first),
        )  # fmt: skip

    @contextmanager
    def _adding(self, acts: Tensor, offset: int) -> Iterator[None]:
        """Add the vectors after the second block while the pass over the slots runs (additive injection only)."""
        if self.injection.replaces_embedding:
            yield
            return
        directions = self.injection(acts.to(self.device))
        places = [place - offset for place in self.prompt.places]

        def add(_module: nn.Module, _args: Any, output: Any) -> Any:
            stream = output[0] if isinstance(output, tuple) else output
            changed = add_at_norm(stream, directions, places)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = decoder_layers(self.model)[_ADDITIVE_BLOCK].register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def check_acts(acts: Tensor, d_model: int) -> None:
    """Refuse what cannot be explained.

    Raises:
        InputError: for an empty batch, a wrong shape, NaN or infinite values.
    """
    if acts.ndim != 2 or acts.shape[-1] != d_model:
        raise InputError(f"activations have shape {tuple(acts.shape)}; this NLA reads [n, {d_model}]")
    if not len(acts):
        raise InputError("no activations were given; at least one row is needed")
    bad = torch.nonzero(~torch.isfinite(acts).all(-1)).flatten().tolist()
    if bad:
        raise InputError(f"activations hold NaN or infinite values in rows {bad[:5]}; leave them out")


def _tracked(starts: range, total: int, batch_size: int) -> Iterator[int]:
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("explaining", total=total)
        for start in starts:
            yield start
            bar.update(task, advance=min(batch_size, total - start))
