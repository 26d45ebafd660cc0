"""The verbalizer of a diff oracle: a causal language model with slots that answers in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from tl_nla.amounts import check_count
from tl_nla.errors import InputError, unknown
from tl_nla.metrics.norms import at_least_float32
from tl_nla.nla.base import VectorVerbalizer
from tl_nla.nla.batching import check_room, pad_right, similar_lengths
from tl_nla.nla.generation import Generators, Prompts, Responses, Run, SamplingConfig
from tl_nla.nla.inputs import check_acts, check_generator, check_texts
from tl_nla.nla.output_head import contiguous_head
from tl_nla.nla.prompts import VerbalizerPrompt, build_verbalizer_prompt, refuse_injection_char
from tl_nla.oracle.encoder import SourceEncoder
from tl_nla.oracle.naming import AtLeastWords
from tl_nla.oracle.prompts import worded
from tl_nla.oracle.questions import EXPLAIN, LISTS, QUESTIONS, check_question, make_answer, parse_answer
from tl_nla.oracle.slots import Slots


@dataclass(frozen=True)
class AnswerSettings:
    """How answers are generated.

    Attributes:
        max_new_tokens: cap of an answer.
        temperature: 0 is greedy.
        generator: of the samples.
        batch_size: answers generated at once.
        at_least: how many words a list of words names before it may end; 0 leaves it to the model.
        samples: answers a write, those of one write side by side.
    """

    max_new_tokens: int = 60
    temperature: float = 0.0
    generator: Generators = None
    batch_size: int = 256
    at_least: int = 0
    samples: int = 1

    def __post_init__(self) -> None:
        check_count("max_new_tokens", self.max_new_tokens)
        check_count("at_least", self.at_least, 0)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "AnswerSettings":
        """From keywords.

        Raises:
            InputError: for one that is no setting.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise unknown("setting", name, known)
        return cls(**settings)


class WriteVerbalizer(VectorVerbalizer):
    """Reads ``(state before, write)`` and answers questions.

    Args:
        model: any Hugging Face causal language model, also one wrapped by PEFT.
        tokenizer: its tokenizer.
        template: user message with ``{injection_char}`` and, behind it, ``{question}``.
        char: the injection character; it stands once for each slot.
        scale: L2 norm at which directions enter.
        d_act: size of the vectors; that of the embeddings when ``None``.

    Raises:
        InputError: when the template or the character cannot be used.
    """

    def __init__(
        self, model: Any, tokenizer: Any, template: str, char: str, scale: float, d_act: int | None = None
    ) -> None:
        super().__init__(model, tokenizer)
        self.template, self.char = template, char
        width = int(model.get_input_embeddings().embedding_dim)
        self.d_act = d_act or width
        self.slots = Slots(self.d_act, width, scale)
        self.prompts = self._prompts()
        check_room(model, max(len(prompt.ids) for prompt in self.prompts.values()))

    def use_encoder(self, encoder: SourceEncoder | None) -> None:
        """Give the verbalizer slots that tell which words a write probably read, or take them away.

        The verbalizer has to be trained with them before it can use them.

        Args:
            encoder: fitted; it is fixed from here on.

        Raises:
            InputError: when the sizes of its vectors are not the verbalizer's.
        """
        if encoder is not None:
            sizes, width = (encoder.d_act, encoder.embeddings.shape[1]), self.slots.weight.shape[2]
            if sizes != (self.d_act, width):
                raise InputError(
                    f"the encoder reads vectors of size {sizes[0]} and gives size {sizes[1]}; "
                    f"this verbalizer needs {self.d_act} and {width}"
                )
            encoder = encoder.requires_grad_(False).eval().to(self.device)
        self.slots.encoder = encoder
        self.prompts = self._prompts()

    def taught(
        self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"], questions: list[str], texts: list[str]
    ) -> list[str]:
        """Right texts as this verbalizer is to learn them: with its encoder's words where writes read distant ones.

        Labels name what a write read among much that state and write do not tell. The encoder's words stand in the
        verbalizer's own slots. It learns to say them in a few hundred steps. Taught the labels, it goes on mixing them
        with guesses of its own for thousands (docs/studies/questions/README.md).

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
        if len(before) != len(write):
            raise InputError(f"{len(write)} writes and {len(before)} states before were given; one a write is needed")
        return self.response_logits(self.prompt_embeddings(before, write, question), response_ids)

    def encode_responses(self, texts: Sequence[str]) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
        """Training targets: a space, the text, the end token; right-padded with a mask.

        Raises:
            InputError: for an empty list, or a text that is longer than the context. Also for a text with the injection
                character or a control token, such as an end token in the middle.
        """
        texts = check_texts(texts, "texts")
        refuse_injection_char(texts, self.char)
        longest = max(len(prompt.ids) for prompt in self.prompts.values())
        return self.encode_rows(texts, [f" {text}" for text in texts], longest)

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
        embeddings = self.embed(whole.scatter(1, places, ids))
        slots = torch.tensor([prompt.places for prompt in prompts], device=self.device)
        vectors = self.slots(before.to(self.device), write.to(self.device)).to(embeddings)
        embeddings = embeddings.scatter(1, slots[..., None].expand_as(vectors), vectors)
        kept = whole.shape[1] + 1 - int(starts.min())
        with contiguous_head(self.model):
            logits = self.model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=kept).logits[:, -kept:]
        row, column = torch.nonzero(real, as_tuple=True)
        return logits[row, places[row, column] - 1 - (whole.shape[1] - kept)]

    def generate(
        self, before: Float[Tensor, "states d_act"], write: Float[Tensor, "n d_act"], question: str = EXPLAIN,
        **settings: Any,
    ) -> list[str]:  # fmt: skip
        """Answers in words; an answer that hits the cap is returned as far as it got.

        Args:
            before: states that the writes are added to, finite.
            write: the writes.
            question: one of the questions, or ``"explain"``.
            settings: fields of :class:`AnswerSettings`, such as ``max_new_tokens``; greedy by default.

        Raises:
            InputError: for vectors of a wrong shape or not finite, or an unknown question or setting. Also for too long
                an answer, or ``at_least`` with an answer that is no list.
        """
        found = self.sample(before, write, question, AnswerSettings.of(settings))
        return [self.decode(ids[mask]) for ids, mask in zip(found.ids.cpu(), found.mask.cpu(), strict=True)]

    def sample(
        self, before: Float[Tensor, "states d_act"], write: Float[Tensor, "n d_act"], question: str,
        settings: "AnswerSettings",
    ) -> Responses:  # fmt: skip
        """The same answers as tokens, with their log-probabilities."""
        self._check(before, write, question)
        self.check_new_tokens(len(self.prompts[question].ids), settings.max_new_tokens)
        check_generator(settings.generator, len(write), self.device)
        sampling = SamplingConfig(settings.max_new_tokens, settings.temperature, self.stop_ids)
        processor = self._at_least(question, settings.at_least, sampling.end_ids)
        run = Run(settings.generator, settings.batch_size, settings.samples, processor=processor)
        first = self.prompts[question].places[0]

        def prompts(rows: slice) -> Prompts:
            return Prompts(self.prompt_embeddings(before[rows], write[rows], question), first)

        return self.respond(len(write), prompts, sampling, run)

    def decode(self, ids: Int[Tensor, " pos"]) -> str:
        """The words of an answer, without its end token."""
        kept = ids[:-1] if len(ids) and int(ids[-1]) in self.stop_ids else ids
        return str(self.tokenizer.decode(kept)).strip()

    def _at_least(self, question: str, count: int, end_ids: tuple[int, ...]) -> AtLeastWords | None:
        if count and question not in LISTS:
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
        embeddings = self.embed(torch.tensor([prompt.ids])).expand(len(write), -1, -1)
        vectors = self.slots(before.to(self.device), write.to(self.device)).to(embeddings)
        first, last = prompt.places[0], prompt.places[-1]
        return torch.cat([embeddings[:, :first], vectors, embeddings[:, last + 1 :]], 1)

    def _check(self, before: Tensor, write: Tensor, question: str) -> None:
        check_question(question, explain=True)
        check_acts(write, self.d_act, "writes")
        check_acts(before, self.d_act, "states before")
        if len(before) != len(write):
            raise InputError(f"{len(write)} writes and {len(before)} states before were given; one a write is needed")
