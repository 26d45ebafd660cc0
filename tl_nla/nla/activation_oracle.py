"""Activation oracles: language models that answer questions about vectors put into their prompt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.model.families import decoder_layers, is_adapted
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.placement import known_device, known_dtype
from tl_nla.model.targets import model_folder
from tl_nla.nla.base import VectorVerbalizer
from tl_nla.nla.batching import check_room
from tl_nla.nla.formats.oracle_detection import plan_oracle
from tl_nla.nla.formats.oracle_plan import OracleSaid
from tl_nla.nla.formats.zero_shot import zero_shot_protocol
from tl_nla.nla.generation import Prompts, Responses, Run, SamplingConfig
from tl_nla.nla.injection import Injection, InjectionConfig
from tl_nla.nla.inputs import check_acts, check_texts
from tl_nla.nla.oracle_prompt import VECTORS, OraclePrompt, OracleProtocol, oracle_prompt
from tl_nla.nla.prompts import render_prompt
from tl_nla.nla.provenance import LAYER_CONVENTION
from tl_nla.nla.slot_reader import changing, check_block, slot_embeddings

States = Tensor | Sequence[Tensor]
"""``[n, d]`` (one vector each), ``[n, k, d]`` (k positions each), ``[n, layers, k, d]``, or a list of ``[k, d]``."""


@dataclass(frozen=True)
class Asking:
    """How answers are written.

    Attributes:
        max_new_tokens: cap of an answer; the oracle's own when ``None``.
        temperature: 0 is greedy.
        generator: of the samples.
        batch_size: answers at once.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    generator: torch.Generator | None = None
    batch_size: int = 64


_GREEDY = Asking()


class ActivationOracle(VectorVerbalizer):
    """A released activation oracle, an oracle lens, or an untrained baseline.

    Attributes:
        model: a causal language model, wrapped by the oracle's adapter where it has one.
        tokenizer: its tokenizer.
        protocol: how it is asked.
        base: name of the model below the adapter.
        any_layer: also take states of layers that it was not trained on.
        provenance: family, folder and conventions.
    """

    def __init__(self, model: Any, tokenizer: Any, protocol: OracleProtocol, base: str = "") -> None:
        super().__init__(model, tokenizer)
        self.protocol, self.base = protocol, base
        self.any_layer, self.provenance = False, {"family": protocol.family, "base": base}
        self.d_model = int(model.get_input_embeddings().embedding_dim)
        self.injection = Injection(protocol.injection, self.d_model)
        if not protocol.same_block:
            check_block(model, self.injection)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, dtype: torch.dtype | str | None = torch.float32, base: str | Path | None = None,
        injection: InjectionConfig | None = None, protocol: OracleProtocol | None = None, device: str = "cpu",
    ) -> "ActivationOracle":  # fmt: skip
        """Load a released oracle; the family is found by the files (:mod:`tl_nla.nla.formats`).

        Args:
            name: folder or hub id.
            dtype: of the weights, such as ``"bfloat16"``; as stored when ``None`` or ``"auto"``.
            base: model below the adapter, where it names one that is not here.
            injection: how vectors enter; ``InjectionConfig("norm_matched")`` for oracles from before 26 October 2025,
                which replace instead of adding.
            protocol: how it is asked, for an oracle of no known family.
            device: such as ``"cuda"``.

        Raises:
            InputError: when a file is missing or damaged, the adapter does not fit, or the family is not known; for an
                unknown precision or device.

        Example:
            >>> oracle = ActivationOracle.from_pretrained("adamkarvonen/checkpoints_latentqa_cls_past_lens_addition_Qwen3-8B")
            >>> oracle.ask(states, "Which language is this?", layer=18)
        """  # noqa: E501
        said = OracleSaid(base, injection, protocol, known_dtype(dtype))
        plan = plan_oracle(name, protocol)
        model, tokenizer, below = plan.load(said)
        asked = replace(plan.protocol, layers=plan.layers_of(model), injection=injection or plan.protocol.injection)
        oracle = cls(model, tokenizer, asked, below)
        oracle.eval().to(known_device(device))
        probe = None if asked.question is not None else "x" if VECTORS in asked.template else VECTORS
        oracle.prompt_for(probe, asked.layers[0] if asked.layers else 0)  # slots, before anything is asked
        oracle.provenance |= {
            "source": plan.weights.title,
            "layer_convention": LAYER_CONVENTION,
        }
        return oracle

    @classmethod
    def baseline(
        cls, name: str | Path, method: str = "selfie", scale: float | None = None,
        dtype: torch.dtype | None = torch.float32,
    ) -> "ActivationOracle":  # fmt: skip
        """An untrained model as its own oracle: the baseline for every trained one.

        Args:
            name: a Hugging Face model, as folder or hub id, or ``"tiny"``.
            method: ``selfie`` or ``patchscopes``; see :func:`tl_nla.nla.formats.zero_shot.zero_shot_protocol`.
            scale: for ``selfie``, L2 norm of the injected embedding.
            dtype: of the weights.

        Raises:
            InputError: when the model cannot be loaded, or for another method.
        """
        folder = model_folder(name)
        model = load_causal_lm(folder, dtype)
        return cls(model, load_tokenizer(folder), zero_shot_protocol(model, method, scale), str(name)).eval()

    @property
    def layers(self) -> tuple[tuple[int, ...], ...]:
        """Combinations of layers that it was trained on; empty where any will do."""
        return self.protocol.layers

    def prompt_for(
        self, question: str | None = None, layer: int | Sequence[int] | None = None, count: int = 1
    ) -> OraclePrompt:
        """The prompt of a question about ``count`` vectors a layer.

        Raises:
            InputError: see :func:`tl_nla.nla.oracle_prompt.oracle_prompt`.
        """
        return oracle_prompt(self.tokenizer, self.protocol, question, self._layers(layer), count)

    def prompt_embeddings(self, states: Float[Tensor, "n slots d_model"], prompt: OraclePrompt) -> Tensor:
        """Input embeddings ``[n, pos, d_model]`` of a prompt with vectors in its slots."""
        return slot_embeddings(self.model, self.injection, prompt.ids, prompt.places, self._vectors(states))

    def forward(
        self, states: Float[Tensor, "n slots d_model"], prompt: OraclePrompt, response_ids: Tensor
    ) -> Float[Tensor, "n pos vocab"]:
        """Logits with which each token of right-padded responses is predicted, teacher forced."""
        with changing(self.model, self._injection(prompt), self._vectors(states), prompt.places):
            return self.response_logits(self.prompt_embeddings(states, prompt), response_ids)

    def ask(
        self, states: States, question: str | None = None, layer: int | Sequence[int] | None = None,
        asking: Asking = _GREEDY,
    ) -> list[str]:  # fmt: skip
        """Ask about vectors.

        Args:
            states: outputs of a block, or differences of them; see :data:`States`.
            question: what is asked; an oracle with a question of its own needs none.
            layer: K, whose block's output the vectors are; several for a multi-layer oracle, in its order. May be left
                out where the oracle knows one combination only.
            asking: cap, temperature, generator, batch size.

        Returns:
            One answer each.

        Raises:
            InputError: for vectors of another size or number, layers that it was not trained on (``any_layer`` allows
                them), or a prompt and cap longer than the context.
        """
        rows, layers = self._rows(states, layer), self._layers(layer)
        cap = self.protocol.cap if asking.max_new_tokens is None else asking.max_new_tokens
        sampling = SamplingConfig(cap, asking.temperature, self.stop_ids)
        run = Run(asking.generator, asking.batch_size)
        answers: dict[int, str] = {}
        for count in sorted({len(row) for row in rows}):
            prompt = oracle_prompt(self.tokenizer, self.protocol, question, layers, count // len(layers))
            check_room(self.model, len(prompt.ids), cap, question or "an answer")
            chosen = [number for number, row in enumerate(rows) if len(row) == count]
            same = torch.stack([rows[number] for number in chosen])
            found = self.respond(len(chosen), partial(self._prompts, same, prompt), sampling, run)
            answers |= dict(zip(chosen, self._texts(found), strict=True))
        return [answers[number] for number in range(len(rows))]

    def ask_text(self, texts: Sequence[str], question: str, asking: Asking = _GREEDY) -> list[str]:
        """Ask the model without its adapter about texts instead of vectors: the black box that an oracle has to beat.

        Raises:
            InputError: for what is no list of texts, or a text longer than the context.
        """
        cap = self.protocol.cap if asking.max_new_tokens is None else asking.max_new_tokens
        sampling, answers = SamplingConfig(cap, asking.temperature, self.stop_ids), []
        with torch.no_grad(), self.untrained():
            for text in check_texts(texts, "texts"):
                ids = render_prompt(self.tokenizer, f"{text}\n\n{question}", self.protocol.style)
                check_room(self.model, len(ids), cap, text)
                own = Prompts(self.embed(torch.tensor([ids])), 0)
                found = self.respond(1, partial(_same, own), sampling, Run(asking.generator))
                answers += self._texts(found)
        return answers

    @contextmanager
    def untrained(self) -> Iterator[None]:
        """Inside, the model without its adapter: the same prompt and vectors, read by a model that was never taught."""
        if not is_adapted(self.model):
            yield
            return
        learning = {parameter: parameter.requires_grad for parameter in self.model.parameters()}
        try:
            with self.model.disable_adapter():
                yield
        finally:  # PEFT makes its parameters trainable when it is switched on again
            for parameter, needed in learning.items():
                parameter.requires_grad_(needed)

    def _prompts(self, states: Float[Tensor, "n slots d_model"], prompt: OraclePrompt, rows: slice) -> Prompts:
        injection, vectors, first = self._injection(prompt), self._vectors(states[rows]), prompt.places[0]
        places = [place - first for place in prompt.places]
        embeddings = slot_embeddings(self.model, injection, prompt.ids, prompt.places, vectors)
        return Prompts(embeddings, first, lambda: changing(self.model, injection, vectors, places))

    def _injection(self, prompt: OraclePrompt) -> Injection:
        if not self.protocol.same_block:
            return self.injection
        return Injection(replace(self.protocol.injection, block=prompt.layers[0]), self.d_model)

    def _vectors(self, states: Float[Tensor, "n slots d_model"]) -> Float[Tensor, "n slots d_model"]:
        return self.injection(states.to(self.device).flatten(0, 1))[:, 0].unflatten(0, states.shape[:2])

    def _texts(self, found: Responses) -> list[str]:
        raw = [self.tokenizer.decode(ids[mask], skip_special_tokens=True)
               for ids, mask in zip(found.ids.cpu(), found.mask.cpu(), strict=True)]  # fmt: skip
        return [self.protocol.answers.extract(text) or text.strip() for text in raw]

    def _layers(self, layer: int | Sequence[int] | None) -> tuple[int, ...]:
        known, depth = self.protocol.layers, len(decoder_layers(self.model))
        if layer is None:
            if len(known) != 1:
                told = ", ".join(str(one[0] if len(one) == 1 else list(one)) for one in known) or f"0 to {depth - 1}"
                raise InputError(f"give layer=, the block whose output the vectors are; this oracle reads {told}")
            return known[0]
        layers = (layer,) if isinstance(layer, int) else tuple(layer)
        if known and layers not in known and not (self.any_layer and len(layers) == len(known[0])):
            told = ", ".join(str(one[0] if len(one) == 1 else list(one)) for one in known)
            raise InputError(
                f"this oracle was trained on layers {told}, not {', '.join(map(str, layers))}; set any_layer = True to "
                "ask all the same"
            )
        if any(not 0 <= one < depth for one in layers):
            raise InputError(f"layers {list(layers)} are out of range; the model has layers 0 to {depth - 1}")
        return layers

    def _rows(self, states: States, layer: int | Sequence[int] | None) -> list[Float[Tensor, "slots d_model"]]:
        layers = len(self._layers(layer))
        if isinstance(states, Tensor):
            if states.ndim == 4 and states.shape[1] == layers:
                states = states.flatten(1, 2)
            elif states.ndim == 2 and layers == 1:
                states = states[:, None]
            elif states.ndim != 3 or states.shape[1] % layers:
                wanted = f"[n, {layers}, k, {self.d_model}]" if layers > 1 else f"[n, {self.d_model}] or [n, k, …]"
                raise InputError(f"states have shape {tuple(states.shape)}; {layers} layers are asked about: {wanted}")
            rows = list(states)
        else:
            rows = list(states)
        for row in rows:
            check_acts(row, self.d_model, "states")
            if len(row) % layers:
                raise InputError(f"{len(row)} vectors are not the same number for each of {layers} layers")
        if not rows:
            raise InputError("no states were given; at least one is needed")
        return [row.float() for row in rows]


def _same(prompts: Prompts, rows: slice) -> Prompts:
    return prompts
