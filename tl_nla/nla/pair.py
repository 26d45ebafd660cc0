"""A natural language autoencoder: a verbalizer and the reconstructor that reads its words."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from tl_nla.amounts import check_count
from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.model.cut import cut_backbone
from tl_nla.model.families import check_causal_lm, trainable_copy
from tl_nla.model.offload import Turns, placed, turn
from tl_nla.model.placement import known_device, known_dtype
from tl_nla.model.saving import replace_folder
from tl_nla.nla import prompts
from tl_nla.nla.formats.detection import MEAN_FILE, open_pair
from tl_nla.nla.formats.parts import write_reconstructor, write_verbalizer
from tl_nla.nla.formats.plan import Said
from tl_nla.nla.formats.protocol import OFFICIAL, Protocol
from tl_nla.nla.formats.sidecar import FILE_NAME, Meta
from tl_nla.nla.injection import InjectionConfig
from tl_nla.nla.inputs import check_texts
from tl_nla.nla.marker import choose_marker, make_room
from tl_nla.nla.provenance import FILE as PROVENANCE
from tl_nla.nla.provenance import record, told
from tl_nla.nla.reconstructor import Reconstructor
from tl_nla.nla.verbalizer import Generation, Verbalizer
from tl_nla.outputs import check_folder, check_replaceable
from tl_nla.sharing import About
from tl_nla.whole_file import write_json


class NLA(nn.Module):
    """Verbalizer and reconstructor of one layer's states.

    Attributes:
        verbalizer: the AV.
        reconstructor: the AR.
        layer: K; the vectors are outputs of block K (``blocks.K.hook_resid_post``, Hugging Face
            ``hidden_states[K + 1]`` except for the last block, where that one is behind the final norm).
        base: name of the model that the pair was made from.
        mean: mean of the normalised training states, the zero of every FVE; ``None`` when it is not known.
        provenance: of a loaded pair, its family, folders and conventions, and how what it was saved with compares with
            what is here. Empty for one made here.
        turns: of the parts on the device, where they were loaded with ``offload``; ``None`` where they stay.
        adapted: how a small pair was made (:class:`tl_nla.nla.adapted.AdaptedPair`); ``None`` for one with all weights.
    """

    def __init__(self, verbalizer: Verbalizer, reconstructor: Reconstructor, layer: int, base: str = "") -> None:
        super().__init__()
        self.verbalizer, self.reconstructor, self.layer, self.base = verbalizer, reconstructor, layer, base
        self.mean: Tensor | None = None
        self.provenance: dict[str, Any] = {}
        self.turns: Turns | None = None
        self.adapted: Any = None
        sizes = verbalizer.d_model, reconstructor.head.out_features
        if sizes[0] != sizes[1]:
            raise InputError(f"the verbalizer reads vectors of size {sizes[0]}, the reconstructor writes {sizes[1]}")

    @property
    def d_model(self) -> int:
        """Size of the vectors."""
        return self.verbalizer.d_model

    @property
    def site(self) -> str:
        """Hook point of the vectors, in HookedTransformer's names."""
        return f"blocks.{self.layer}.hook_resid_post"

    @classmethod
    def create(
        cls, model: Any, tokenizer: Any, layer: int, injection: InjectionConfig, av_template: str = prompts.AV_TEMPLATE,
        ar_template: str = prompts.AR_TEMPLATE, injection_char: str | None = None,
    ) -> "NLA":  # fmt: skip
        """A pair to be trained, both parts copied from one causal language model.

        Args:
            model: a Hugging Face causal language model; left as it is. All parameters of the copies are trainable.
            tokenizer: its tokenizer.
            layer: K.
            injection: how vectors enter the verbalizer.
            av_template: with ``{injection_char}``.
            ar_template: with ``{explanation}``.
            injection_char: marker, one token inside the prompt; chosen when ``None``, or added to copies of tokenizer
                and model (:func:`tl_nla.nla.marker.choose_marker`).

        The pair's ``base`` is the model's own name; set it where that says nothing.

        Raises:
            InputError: when the model, the layer, a template or the character cannot be used.
        """
        check_causal_lm(model)
        check_count("layer", layer, None)
        marker = choose_marker(tokenizer, [av_template], [injection.slots], injection_char, tags=True)
        tokenizer = marker.tokenizer
        prompt = prompts.build_verbalizer_prompt(tokenizer, av_template, marker.char, injection.slots)
        reconstructor = Reconstructor(cut_backbone(model, layer + 1), tokenizer, ar_template)
        verbalizer = Verbalizer(trainable_copy(model), tokenizer, prompt, injection)
        for part in (verbalizer.model, reconstructor.backbone):
            make_room(part, marker)
        verbalizer.injection.to(verbalizer.device)
        return cls(verbalizer, reconstructor, layer, str(getattr(model.config, "_name_or_path", "")))

    @classmethod
    def from_pretrained(
        cls, av: str | Path, ar: str | Path | None = None, dtype: torch.dtype | str | None = torch.float32,
        device: str = "cpu", offload: bool = False, **said: Any,
    ) -> "NLA":  # fmt: skip
        """Load a released pair of any family in :mod:`tl_nla.nla.formats`, or a small one; files tell which it is.

        Args:
            av: verbalizer folder or hub id, or one that holds both parts. The folder of a small pair
                (:func:`tl_nla.nla.adapted_files.save_adapted`) holds both.
            ar: reconstructor folder or hub id; when ``None``, the one beside the verbalizer.
            dtype: of the transformers' weights, such as ``"bfloat16"``; as stored when ``None`` or ``"auto"``. The
                reconstructor's head is always float32.
            device: such as ``"cuda"``.
            offload: whether both parts wait on the CPU and take turns on the device, for a target that needs most of
                its memory (:class:`tl_nla.model.offload.Turns`).
            said: ``injection``, ``base``, ``choice`` and ``thinking`` of :class:`tl_nla.nla.formats.plan.Said`.

        Raises:
            InputError: when a file is missing or damaged, a check fails, or the family is not known; for an unknown
                precision or device, or ``offload`` to the CPU.

        Example:
            >>> nla = NLA.from_pretrained("kitft/nla-qwen2.5-7b-L20-av")
            >>> nla.provenance["family"]
            'kitft'
        """
        from tl_nla.nla.adapted_files import is_small, load_adapted

        if ar is None and is_small(av):
            nla = load_adapted(str(av), dtype=known_dtype(dtype)).eval()
        else:
            opened = open_pair(av, ar, Said(**said, dtype=known_dtype(dtype)))
            nla = cls(opened.verbalizer, opened.reconstructor, opened.layer, opened.base)
            nla.mean, nla.provenance = opened.mean, opened.provenance
        nla.turns = placed(nla, known_device(device), offload)
        return nla

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write ``folder/av`` and ``folder/ar`` in the released format; each appears whole or not at all.

        Args:
            folder: where to; PEFT adapters are merged.
            dtype: of the saved transformer weights, as they are when ``None``; head and injection stay float32.

        Raises:
            InputError: before anything is written, when a weight is not finite, the folder cannot be written to, or
                other files than a pair's would be lost.
        """
        self._check_finite(dtype)
        folder = self.check_saving(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
            av, ar = Path(scratch, "av"), Path(scratch, "ar")
            write_verbalizer(self.verbalizer, self._meta("av"), av, dtype)
            write_json(record(self.verbalizer.model, self.layer, self.base), av / PROVENANCE)
            write_reconstructor(self.reconstructor, self._meta("ar"), ar, dtype)
            if self.mean is not None:
                save_file({"mean": self.mean.detach().float().contiguous()}, ar / MEAN_FILE)
            for part in (av, ar):
                replace_folder(part, folder / part.name)

    def about(self) -> About:
        """What a card says of the pair (:func:`tl_nla.sharing.push_to_hub`)."""
        made = record(self.verbalizer.model, self.layer, self.base)
        model = self.base or "a model that is not named"
        what = (f"Verbalizer (`av/`) and reconstructor (`ar/`) of states of `{model}`, layer {self.layer}: "
                f"the {made['layer_convention']}, `{self.site}` in TransformerLens.")  # fmt: skip
        load = 'import tl_nla\n\nnla = tl_nla.NLA.from_pretrained("{repo}")\nprint(nla.verbalize(states))'
        line = f"{told(made)}; injection `{self.verbalizer.injection.config.kind}`."
        return About(what, load, self.base, line, "natural-language-autoencoder")

    @staticmethod
    def check_saving(folder: str | Path) -> Path:
        """Refuse a folder that :meth:`save_pretrained` could not write to; trainings ask before they start."""
        folder = check_folder(folder)
        for part in ("av", "ar"):
            check_replaceable(folder / part, FILE_NAME)
        return folder

    def _check_finite(self, dtype: torch.dtype | None) -> None:
        verbalizer, reconstructor = self.verbalizer, self.reconstructor
        check_finite(verbalizer.model.state_dict(), "the verbalizer", dtype)
        check_finite(verbalizer.injection.state_dict(), "the verbalizer's injection")
        check_finite(reconstructor.backbone.state_dict(), "the reconstructor's backbone", dtype)
        check_finite(reconstructor.head.state_dict(), "the reconstructor's head")
        check_finite({} if self.mean is None else {"mean": self.mean}, "the training set's mean")

    def verbalize(self, acts: Float[Tensor, "n d_act"], **settings: Any) -> list[str]:
        """Explanations of vectors; ``settings`` as for :meth:`Verbalizer.generate` (greedy by default)."""
        return self.generate(acts, **settings).texts

    def generate(self, acts: Float[Tensor, "n d_act"], **settings: Any) -> Generation:
        """As :meth:`verbalize`, with tokens, log-probabilities and which rows could be extracted."""
        with turn(self.turns, self.verbalizer):
            return self.verbalizer.generate(acts, **settings)

    def search(self, acts: Float[Tensor, "n d_act"], **settings: Any) -> Generation:
        """Explanations by beam search; ``settings`` as for :meth:`Verbalizer.search`."""
        with turn(self.turns, self.verbalizer):
            return self.verbalizer.search(acts, **settings)

    def reconstruct(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "n d_model"]:
        """Vectors read back from explanations; only their direction was trained.

        Raises:
            InputError: for an empty list or what is no list of texts, a text longer than the context, or one with the
                injection character (words of a verbalizer never hold it; see
                :class:`tl_nla.nla.verbalizer.Generation`).
        """
        texts = check_texts(texts)
        prompts.refuse_injection_char(texts, self.verbalizer.prompt.char)
        with turn(self.turns, self.reconstructor):
            return self.reconstructor.reconstruct(texts, batch_size)

    def _meta(self, role: Any) -> Meta:
        config, prompt = self.verbalizer.injection.config, self.verbalizer.prompt
        scales = {"sqrt_d": self.d_model**0.5, "raw": "raw"}
        plain = config.slots == 1 and config.kind in ("constant", "raw")
        return Meta(
            role=role, d_model=self.d_model, layer=self.layer, av_template=prompt.template,
            ar_template=self.reconstructor.template, injection_char=prompt.char, injection_token_id=prompt.token_id,
            neighbours=prompt.neighbours, suffix_ids=tuple(self.reconstructor.suffix),
            injection_scale=scales.get(config.kind, config.scale), mse_scale=self.d_model**0.5,
            injection={} if plain or role == "ar" else _injection_keys(config),
            base_checkpoint=self.base, protocol=self._protocol(),
        )  # fmt: skip

    def _protocol(self) -> Protocol | None:
        """How the pair is read, where not as the official ones."""
        reconstructor = self.reconstructor
        told = Protocol(
            self.verbalizer.prompt.style, self.verbalizer.answers, None, reconstructor.special,
            reconstructor.rescale is not None,
        )  # fmt: skip
        return None if told == OFFICIAL else told


def _injection_keys(config: InjectionConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": config.kind, "slots": config.slots}
    if (config.block, config.strength) != (1, 1.0):
        found |= {"block": config.block, "strength": config.strength}
    return found
