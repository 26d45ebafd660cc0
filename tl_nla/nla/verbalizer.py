"""The activation verbalizer (AV): a causal language model that reads a vector and writes its explanation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.nla.answers import IN_TAGS, AnswerRule
from tl_nla.nla.base import VectorVerbalizer
from tl_nla.nla.batching import check_room
from tl_nla.nla.generation import Generators, Prompts, Responses, Run, SamplingConfig
from tl_nla.nla.injection import Injection, InjectionConfig
from tl_nla.nla.inputs import check_acts, check_generator, check_texts
from tl_nla.nla.prompts import (
    CLOSE,
    VerbalizerPrompt,
    refuse_injection_char,
    refuse_tags,
    token_of,
)
from tl_nla.nla.slot_reader import changing, check_block, slot_embeddings

AUTO = "auto"


@dataclass(frozen=True)
class Generation:
    """Explanations with their tokens; see :class:`tl_nla.nla.generation.Responses`.

    Attributes:
        texts: the explanations without the injection character; the unfinished response as it stands where none could
            be extracted.
        extracted: rows whose response held a closed explanation, ended within the cap and did not repeat the injection
            character. Every other row counts as failed (released recipe, but for the character). Where the answer rule
            has no closing tag, the end is not asked for.
        responses: tokens, mask and log-probabilities.
        answers: how explanations were found in the responses.
    """

    texts: list[str]
    extracted: Bool[Tensor, " n"]
    responses: Responses
    answers: AnswerRule = IN_TAGS

    @property
    def ids(self) -> Int[Tensor, "n pos"]:
        """Generated tokens, right-padded."""
        return self.responses.ids

    @property
    def mask(self) -> Bool[Tensor, "n pos"]:
        """True where a token was generated."""
        return self.responses.mask

    @property
    def logprobs(self) -> Float[Tensor, "n pos"]:
        """Log-probability of each token under the policy that it was sampled from, nats."""
        return self.responses.logprobs

    @property
    def closed(self) -> Bool[Tensor, " n"]:
        """Same as ``extracted``."""
        return self.extracted


class Verbalizer(VectorVerbalizer):
    """AV of an NLA.

    Args:
        model: any Hugging Face causal language model, also one wrapped by PEFT.
        tokenizer: its tokenizer.
        prompt: the tokenised prompt.
        injection: how vectors enter.
        answers: what of a response is the explanation.

    Raises:
        InputError: when the prompt's markers and the injection's slots differ in number, or the model has too few
            blocks for an injection into one.
    """

    def __init__(
        self, model: Any, tokenizer: Any, prompt: VerbalizerPrompt, injection: InjectionConfig,
        answers: AnswerRule | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, tokenizer)
        self.prompt = prompt
        self.answers = answers or AnswerRule()
        self.d_model = int(model.get_input_embeddings().embedding_dim)
        self.injection = Injection(injection, self.d_model)
        if injection.slots != len(prompt.places):
            raise InputError(f"injection has {injection.slots} slots, the prompt {len(prompt.places)}; make them equal")
        check_block(model, self.injection)
        check_room(model, len(prompt.ids))
        close = token_of(tokenizer, CLOSE)
        self._close_ids = [] if close is None else [close]
        self._around = tokenizer.encode(self.wrap(""), add_special_tokens=False)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a response: end tokens of chat, tokenizer and model, and the close tag if it is one token."""
        return tuple(sorted({*super().stop_ids, *self._close_ids}))

    def prompt_embeddings(self, acts: Float[Tensor, "n d_act"]) -> Float[Tensor, "n pos d_model"]:
        """Input embeddings of the prompt with the vectors in their slots; see :func:`slot_embeddings`."""
        if acts.ndim != 2 or acts.shape[-1] != self.d_model:
            raise InputError(f"activations have shape {tuple(acts.shape)}; this NLA reads [n, {self.d_model}]")
        vectors = self.injection(acts.to(self.device))
        return slot_embeddings(self.model, self.injection, self.prompt.ids, self.prompt.places, vectors)

    def forward(
        self, acts: Float[Tensor, "n d_model"], response_ids: Int[Tensor, "n pos"],
        response_mask: Tensor | None = None,
    ) -> Float[Tensor, "n pos vocab"]:  # fmt: skip
        """Logits with which the verbalizer predicts each response token, teacher forced.

        Args:
            acts: vectors to explain.
            response_ids: right-padded responses.
            response_mask: true where a response token is real; unused, since right padding needs no mask in a causal
                model: logits behind the last real token mean nothing.

        Raises:
            InputError: for ids outside of the vocabulary, or of another number than the vectors.
        """
        prompts = self.prompt_embeddings(acts)
        with changing(self.model, self.injection, self.injection(acts.to(self.device)), self.prompt.places):
            return self.response_logits(prompts, response_ids)

    def encode_responses(self, texts: Sequence[str]) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
        """Training targets: each explanation between its tags, then the end token; right-padded with a mask.

        Raises:
            InputError: for an empty list, or a text that is longer than the context. Also for a text with the injection
                character, an explanation tag, or a control token, such as an end token in the middle.
        """
        texts = check_texts(texts)
        refuse_injection_char(texts, self.prompt.char)
        refuse_tags(texts)
        return self.encode_rows(texts, [self.wrap(text) for text in texts], len(self.prompt.ids), self._around)

    def wrap(self, text: str) -> str:
        """The response for an explanation: tags on lines of their own unless the close tag is a single token."""
        return self.answers.wrap(text, "" if self._close_ids else "\n")

    @torch.no_grad()
    def generate(
        self, acts: Float[Tensor, "n d_act"], max_new_tokens: Any = AUTO, temperature: float = 0.0,
        generator: Generators = None, batch_size: int = 256, progress: bool = False, samples: int = 1,
    ) -> Generation:  # fmt: skip
        """Explain vectors.

        Args:
            acts: vectors ``[n, d_model]``, finite, any floating dtype.
            max_new_tokens: cap of a response; ``"auto"`` is what suits the form of the answers, 150 for tags.
            temperature: 0 is greedy; above 0 samples from the whole distribution.
            generator: of the samples; the same generator state, vectors and ``batch_size`` give the same words. With a
                generator a vector, its words do not depend on the batch.
            batch_size: responses generated at once.
            progress: show a progress bar on the terminal.
            samples: responses a vector; row ``i * samples + j`` is the j-th of vector i.

        Raises:
            InputError: when there is no vector, its size is wrong, or it holds NaN or infinity. Also when a setting is
                no usable number, or prompt and cap together are longer than the model's context.
        """
        return self._explain(acts, max_new_tokens, Run(generator, batch_size, samples, progress), temperature)

    @torch.no_grad()
    def search(
        self, acts: Float[Tensor, "n d_act"], beams: int = 4, max_new_tokens: Any = AUTO, batch_size: int = 256,
        progress: bool = False,
    ) -> Generation:  # fmt: skip
        """Explain vectors by beam search: the likeliest explanation that is found, not the likeliest word each time.

        Args:
            acts: vectors ``[n, d_model]``, finite, any floating dtype.
            beams: beginnings of an explanation that are followed at once.
            max_new_tokens: as of :meth:`generate`.
            batch_size: beginnings in memory at once.
            progress: show a progress bar on the terminal.

        Raises:
            InputError: as of :meth:`generate`.
        """
        return self._explain(
            acts, max_new_tokens, Run(None, batch_size, 1, progress), beams=check_count("beams", beams)
        )

    def _explain(
        self, acts: Float[Tensor, "n d_act"], max_new_tokens: Any, run: Run, temperature: float = 0.0, beams: int = 1
    ) -> Generation:
        check_acts(acts, self.d_model)
        check_generator(run.generator, len(acts), self.device)
        max_new_tokens = self.answers.cap if max_new_tokens == AUTO else max_new_tokens
        sampling = SamplingConfig(max_new_tokens, temperature, self.stop_ids, beams)
        self.check_new_tokens(len(self.prompt.ids), max_new_tokens)
        return self._read(self.respond(len(acts), lambda rows: self._prompts(acts[rows]), sampling, run))

    def _prompts(self, acts: Float[Tensor, "n d_act"]) -> Prompts:
        first, vectors = self.prompt.places[0], self.injection(acts.to(self.device))
        places = [place - first for place in self.prompt.places]
        embeddings = slot_embeddings(self.model, self.injection, self.prompt.ids, self.prompt.places, vectors)
        return Prompts(embeddings, first, lambda: changing(self.model, self.injection, vectors, places))

    def _read(self, responses: Responses) -> Generation:
        kept = [ids[mask] for ids, mask in zip(responses.ids.cpu(), responses.mask.cpu(), strict=True)]
        if not self.answers.must_end:  # without tags the end token would be part of the words
            ends = torch.tensor(self.stop_ids)
            kept = [ids[:-1] if len(ids) and torch.isin(ids[-1], ends) else ids for ids in kept]
        raw = [self.tokenizer.decode(ids) for ids in kept]
        found = [self.answers.extract(text) for text in raw]
        extracted = torch.tensor([text is not None for text in found])
        if self.answers.must_end:
            extracted &= responses.finished.cpu()
        # A marker among the words names nothing and could not be read back, so it fails the row and is left out.
        extracted &= torch.tensor([self.prompt.char not in text for text in raw])
        texts = [whole if text is None else text for whole, text in zip(raw, found, strict=True)]
        return Generation([text.replace(self.prompt.char, "") for text in texts], extracted, responses, self.answers)
