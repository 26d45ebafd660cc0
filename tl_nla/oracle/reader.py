"""The reader of a diff oracle: a causal language model with slots that answers in words."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.metrics.norms import at_least_float32
from tl_nla.model.control import control_ids, refuse_control
from tl_nla.model.families import context_length
from tl_nla.nla.batching import check_room, evaluating, pad_right, similar_lengths
from tl_nla.nla.generation import SamplingConfig, respond
from tl_nla.nla.inputs import check_acts, check_generator, check_ids, check_texts
from tl_nla.nla.prompts import VerbalizerPrompt, build_verbalizer_prompt, end_of_response, refuse_injection_char
from tl_nla.oracle.encoder import SourceEncoder
from tl_nla.oracle.naming import AtLeastWords
from tl_nla.oracle.questions import EXPLAIN, LISTS, QUESTIONS, check_question, make_answer, parse_answer
from tl_nla.oracle.reader_prompts import worded
from tl_nla.oracle.slots import Slots


class Reader(nn.Module):
    """Reads ``(state before, write)`` and answers questions.

    Args:
        model: any Hugging Face causal language model, also one wrapped by PEFT.
        tokenizer: its tokenizer.
        template: user message with ``{injection_char}`` and, behind it, ``{question}``.
        char: the injection character; it stands once for each slot.
        scale: L2 norm at which directions enter.
        d_act: size of the vectors; that of the embeddings when ``None``.

    Attributes:
        by_length: whether the loss takes texts of similar length together, which saves tokens, or all rows in one
            pass, which saves launches: the faster way for a small model on a GPU.

    Raises:
        InputError: when the template or the character cannot be used.
    """

    def __init__(
        self, model: Any, tokenizer: Any, template: str, char: str, scale: float, d_act: int | None = None
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.template, self.char = model, tokenizer, template, char
        width = int(model.get_input_embeddings().embedding_dim)
        self.d_act = d_act or width
        self.slots = Slots(self.d_act, width, scale)
        self.prompts = self._prompts()
        check_room(model, max(len(prompt.ids) for prompt in self.prompts.values()))
        self.end_id = end_of_response(tokenizer)
        self._control = control_ids(tokenizer) | {self.end_id}
        self.by_length = True

    def use_encoder(self, encoder: SourceEncoder | None) -> None:
        """Give the reader slots that tell which words a write probably read, or take them away.

        The reader has to be trained with them before it understands them.

        Args:
            encoder: fitted; it is fixed from here on.

        Raises:
            InputError: when the sizes of its vectors are not the reader's.
        """
        if encoder is not None:
            sizes, width = (encoder.d_act, encoder.embeddings.shape[1]), self.slots.weight.shape[2]
            if sizes != (self.d_act, width):
                raise InputError(
                    f"the encoder reads vectors of size {sizes[0]} and gives size {sizes[1]}; "
                    f"this reader needs {self.d_act} and {width}"
                )
            encoder = encoder.requires_grad_(False).eval().to(self.device)
        self.slots.encoder = encoder
        self.prompts = self._prompts()

    def taught(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], questions: list[str], texts: list[str]
    ) -> list[str]:
        """Right texts as this reader is to learn them: with its encoder's words where writes read distant ones.

        Labels name what a write read among much that state and write do not tell. The encoder's words stand in the
        reader's own slots: it learns to say them in a few hundred steps, while it goes on mixing them with guesses of
        its own for thousands when it is taught the labels (docs/studies/questions/README.md).

        Args:
            before: states that the writes are added to.
            write: the writes.
            questions: one a row.
            texts: right texts; all stay as they are without an encoder.
        """
        encoder, answers = self.slots.encoder, list(texts)
        if encoder is None:
            return answers
        told = {row: parse_answer(asked, texts[row]) for row, asked in enumerate(questions) if asked == "sources"}
        rows = [row for row, answer in told.items() if answer.tokens]
        named = encoder.name(before[rows].to(self.device), write[rows].to(self.device)) if rows else []
        for row, words in zip(rows, named, strict=True):
            answers[row] = make_answer("sources", tuple(words), local=told[row].local).text
        return answers

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.get_input_embeddings().weight.device

    @property
    def pad_id(self) -> int:
        """Id that fills short rows."""
        pad = self.tokenizer.pad_token_id
        return self.end_id if pad is None else int(pad)

    def forward(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], response_ids: Int[Tensor, "n pos"],
        question: str = EXPLAIN,
    ) -> Float[Tensor, "n pos vocab"]:  # fmt: skip
        """Logits with which each response token is predicted, teacher forced.

        Args:
            before: states that the writes are added to.
            write: the writes.
            response_ids: right-padded responses.
            question: one question for all rows, or ``"explain"``.

        Raises:
            InputError: for ids outside of the vocabulary, or of another number than the vectors.
        """
        check_ids(response_ids, self.model.get_input_embeddings().weight.shape[0], "response ids")
        if not len(response_ids) == len(before) == len(write):
            raise InputError(
                f"{len(response_ids)} responses for {len(write)} writes and {len(before)} states; give one each"
            )
        responses = self.model.get_input_embeddings()(response_ids.to(self.device))
        embeddings = torch.cat([self.prompt_embeddings(before, write, question), responses], 1)
        kept = response_ids.shape[1] + 1
        return self.model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=kept).logits[:, -kept:-1]

    def encode_responses(self, texts: Sequence[str]) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
        """Training targets: a space, the text, the end token; right-padded with a mask.

        Raises:
            InputError: for an empty list, or a text with the injection character or a control token, such as an end
                token in the middle, or one longer than the context.
        """
        texts = check_texts(texts, "texts")
        refuse_injection_char(texts, self.char)
        rows = self.tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]
        refuse_control(texts, rows, self.tokenizer, self._control)
        rows = [[*row, self.end_id] for row in rows]
        longest = max(range(len(rows)), key=lambda row: len(rows[row]))
        used = max(len(prompt.ids) for prompt in self.prompts.values())
        check_room(self.model, used, len(rows[longest]), texts[longest])
        return pad_right(rows, self.pad_id)

    def loss(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], questions: list[str], texts: list[str]
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy, in nats, of the tokens of the right texts; rows may ask different questions.

        Prompts and texts of any length stand in one batch, padded behind the text, where a causal model needs no mask.
        """
        return self.loss_of_responses(before, write, questions, *self.encode_responses(texts))

    def loss_of_responses(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], questions: list[str],
        response_ids: Int[Tensor, "n pos"], response_mask: Bool[Tensor, "n pos"],
    ) -> Float[Tensor, ""]:  # fmt: skip
        """The same loss on right texts that are encoded already, on the CPU."""
        ids, mask = response_ids, response_mask
        prompts = [self.prompts[check_question(asked, explain=True)] for asked in questions]
        starts = torch.tensor([len(prompt.ids) for prompt in prompts])
        total = torch.zeros((), device=self.device, dtype=torch.float32)
        groups = similar_lengths(starts + mask.sum(1)) if self.by_length else [torch.arange(len(ids))]
        for rows in groups:
            own = ids[rows, : int(mask[rows].sum(1).max())]
            real = mask[rows, : own.shape[1]]
            chosen = [prompts[row] for row in rows.tolist()]
            logits = self._response_logits(before[rows], write[rows], chosen, own, real)
            total = total + cross_entropy(at_least_float32(logits), own[real].to(self.device), reduction="sum")
        return total / mask.sum()

    def _response_logits(
        self, before: Tensor, write: Tensor, prompts: list[VerbalizerPrompt], ids: Int[Tensor, "n pos"],
        real: Bool[Tensor, "n pos"],
    ) -> Float[Tensor, "tokens vocab"]:  # fmt: skip
        """Logits of the real response tokens, row by row: a prompt of its own, its response, then padding."""
        starts = torch.tensor([len(prompt.ids) for prompt in prompts])
        table, _ = pad_right([prompt.ids for prompt in prompts], self.pad_id)
        whole = torch.cat([table, torch.full_like(ids, self.pad_id)], 1)
        places = starts[:, None] + torch.arange(ids.shape[1])
        embeddings = self.model.get_input_embeddings()(whole.scatter(1, places, ids).to(self.device))
        slots = torch.tensor([prompt.places for prompt in prompts], device=self.device)
        vectors = self.slots(before.to(self.device), write.to(self.device)).to(embeddings)
        embeddings = embeddings.scatter(1, slots[..., None].expand_as(vectors), vectors)
        kept = whole.shape[1] + 1 - int(starts.min())
        logits = self.model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=kept).logits[:, -kept:]
        row, column = torch.nonzero(real, as_tuple=True)
        return logits[row, places[row, column] - 1 - (whole.shape[1] - kept)]

    @torch.no_grad()
    def generate(
        self, before: Float[Tensor, "states d_act"], write: Float[Tensor, "n d_act"], question: str = EXPLAIN,
        max_new_tokens: int = 60, temperature: float = 0.0, generator: torch.Generator | None = None,
        batch_size: int = 256, at_least: int = 0,
    ) -> list[str]:  # fmt: skip
        """Answers in words; an answer that hits the cap is returned as far as it got.

        Args:
            before: states that the writes are added to, finite.
            write: the writes.
            question: one of the questions, or ``"explain"``.
            max_new_tokens: cap of an answer.
            temperature: 0 is greedy.
            generator: of the samples.
            batch_size: rows generated at once.
            at_least: how many words a list of words names before it may end; 0 leaves it to the reader.

        Raises:
            InputError: for vectors of a wrong shape or not finite, an unknown question, too long an answer, or
                ``at_least`` with an answer that is no list.
        """
        self._check(before, write, question, max_new_tokens, batch_size)
        check_generator(generator, len(write), self.device)
        stops = {self.end_id, self.tokenizer.eos_token_id} - {None}
        sampling = SamplingConfig(max_new_tokens, temperature, tuple(sorted(stops)))
        first = self.prompts[question].places[0]
        processor = self._at_least(question, at_least, sampling.end_ids)

        def step(embeddings: Tensor, cache: Any) -> Tensor:
            output = self.model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return output.logits[:, -1]

        texts: list[str] = []
        with evaluating(self):
            for start in range(0, len(write), batch_size):
                rows = slice(start, start + batch_size)
                prompt = self.prompt_embeddings(before[rows], write[rows], question)
                embed = self.model.get_input_embeddings()
                rest = sampling, self.pad_id, generator
                parts = respond(step, embed, prompt[:1, :first], prompt[:, first:], *rest, processor=processor)
                texts += [self.decode(ids[mask]) for ids, mask in zip(parts.ids.cpu(), parts.mask.cpu(), strict=True)]
        return texts

    def decode(self, ids: Int[Tensor, " pos"]) -> str:
        """The words of an answer, without its end token."""
        kept = ids[:-1] if len(ids) and int(ids[-1]) in (self.end_id, self.tokenizer.eos_token_id) else ids
        return str(self.tokenizer.decode(kept)).strip()

    def _at_least(self, question: str, count: int, end_ids: tuple[int, ...]) -> AtLeastWords | None:
        if check_count("at_least", count, 0) and question not in LISTS:
            raise InputError(f"at_least is {count}, but the answer to {question!r} is no list; ask {', '.join(LISTS)}")
        return AtLeastWords(self.tokenizer, end_ids, count) if count else None

    def _prompts(self) -> dict[str, VerbalizerPrompt]:
        return {name: self._prompt(name) for name in (EXPLAIN, *QUESTIONS)}

    def _prompt(self, question: str) -> VerbalizerPrompt:
        text = worded(self.template, question)
        return build_verbalizer_prompt(self.tokenizer, text, self.char, self.slots.count)

    def prompt_embeddings(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], question: str = EXPLAIN
    ) -> Float[Tensor, "n pos width"]:
        """Input embeddings of a question's prompt with both vectors in their slots."""
        prompt = self.prompts[check_question(question, explain=True)]
        ids = torch.tensor([prompt.ids], device=self.device)
        embeddings = self.model.get_input_embeddings()(ids).expand(len(write), -1, -1)
        vectors = self.slots(before.to(self.device), write.to(self.device)).to(embeddings)
        first, last = prompt.places[0], prompt.places[-1]
        return torch.cat([embeddings[:, :first], vectors, embeddings[:, last + 1 :]], 1)

    def _check(self, before: Tensor, write: Tensor, question: str, max_new_tokens: int, batch_size: int) -> None:
        check_question(question, explain=True)
        check_acts(write, self.d_act, "writes")
        check_acts(before, self.d_act, "states before")
        if len(before) != len(write):
            raise InputError(f"{len(write)} writes and {len(before)} states before were given; one a write is needed")
        check_count("batch_size", batch_size)
        check_count("max_new_tokens", max_new_tokens)
        limit, used = context_length(self.model), len(self.prompts[question].ids)
        if limit is not None and used + max_new_tokens > limit:
            raise InputError(
                f"the prompt ({used} tokens) and max_new_tokens {max_new_tokens} exceed the reader's context of {limit}"
            )
