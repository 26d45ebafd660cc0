"""The diff oracle: says what a write does, answers questions about it, and reads writes back from words."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.finite import check_finite
from tl_nla.model.cut import cut_backbone
from tl_nla.model.families import check_causal_lm, decoder_layers, trainable_copy
from tl_nla.model.files import local_folder, read_json, read_safetensors
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.offload import Turns, placed, turn
from tl_nla.model.placement import known_device, known_dtype
from tl_nla.model.saving import replace_folder, save_backbone, save_causal_lm
from tl_nla.nla import prompts
from tl_nla.nla.inputs import check_acts
from tl_nla.nla.marker import make_room
from tl_nla.nla.provenance import FILE as PROVENANCE
from tl_nla.nla.provenance import compared, record, told
from tl_nla.oracle.encoder import SourceEncoder
from tl_nla.oracle.labels.strength import StrengthReference
from tl_nla.oracle.prompts import oracle_marker, oracle_template
from tl_nla.oracle.questions import EXPLAIN, Answer, check_question, parse_answer
from tl_nla.oracle.refinement import Refinement
from tl_nla.oracle.verbalizer import WriteVerbalizer
from tl_nla.oracle.write_reconstructor import WriteReconstructor
from tl_nla.outputs import check_replaceable
from tl_nla.sharing import About
from tl_nla.whole_file import write_json

SIDECAR, WORDS_SIDECAR = "oracle.yaml", "words.yaml"
_KEYS = ("version", "d_act", "scale", "template", "injection_char", "reconstructor_template", "base")
_STRENGTH, _SLOTS, _HEAD = "strength.safetensors", "slots.safetensors", "write_head.safetensors"
_ENCODER, _REFINEMENT = "encoder.safetensors", "refinement.safetensors"
_FILES = (SIDECAR, _STRENGTH, _SLOTS, _HEAD, _ENCODER, _REFINEMENT, PROVENANCE, "reader", "reconstructor")


class DiffOracle(nn.Module):
    """Reads the write of a head, an attention, an MLP, a block or a span, together with the state before it.

    Attributes:
        verbalizer: a causal language model with a slot for the state and one for the write, and perhaps those of a
            fitted encoder (:class:`SourceEncoder`).
        reconstructor: from explanations to writes, magnitude included.
        strength: what norms are usual, measured with the training writes; ``None`` before that.
        base: name of the model that both were made from.
        turns: of the parts on the device, where they were loaded with ``offload``; ``None`` where they stay.
        provenance: of a loaded oracle, how what it was saved with compares with what is here; empty for one made here.
    """

    def __init__(
        self, verbalizer: WriteVerbalizer, reconstructor: WriteReconstructor, strength: StrengthReference | None = None,
        base: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        if verbalizer.d_act != reconstructor.d_act:
            sizes = (verbalizer.d_act, reconstructor.d_act)
            raise InputError(f"the verbalizer reads writes of size {sizes[0]}, the reconstructor gives size {sizes[1]}")
        self.verbalizer, self.reconstructor, self.strength, self.base = verbalizer, reconstructor, strength, base
        self.turns: Turns | None = None
        self.provenance: dict[str, Any] = {}

    @property
    def d_model(self) -> int:
        """Size of states and writes."""
        return self.verbalizer.d_act

    @classmethod
    def create(
        cls, model: Any, tokenizer: Any, d_act: int | None = None, blocks: int | None = None,
        template: str | None = None, ar_template: str | None = None, injection_char: str | None = None,
    ) -> "DiffOracle":  # fmt: skip
        """An oracle to be trained, both parts copied from one causal language model.

        Args:
            model: a Hugging Face causal language model; left as it is.
            tokenizer: its tokenizer.
            d_act: size of the writes, when it is not that of the model.
            blocks: how many blocks the reconstructor keeps; all when ``None``.
            template: of the verbalizer, with ``{injection_char}`` and ``{question}``.
            ar_template: of the reconstructor, with ``{explanation}``.
            injection_char: marker, one token inside the prompts; chosen when ``None``, or added to copies of
                tokenizer and model (:func:`tl_nla.nla.marker.choose_marker`).

        The oracle's ``base`` is the model's own name; set it where that says nothing.

        Raises:
            InputError: when the model, a template or the character cannot be used.
        """
        from tl_nla.nla.fresh import mean_embedding_norm

        check_causal_lm(model)
        name = str(getattr(model.config, "_name_or_path", ""))
        chosen = template or oracle_template(tokenizer)
        marker = oracle_marker(tokenizer, chosen, injection_char)
        short = prompts.has_tags(tokenizer)
        ar_template = ar_template or (prompts.TINY_AR_TEMPLATE if short else prompts.AR_TEMPLATE)
        tokenizer, scale = marker.tokenizer, mean_embedding_norm(model)
        backbone = cut_backbone(model, blocks or len(decoder_layers(model)))
        verbalizer = WriteVerbalizer(trainable_copy(model), tokenizer, chosen, marker.char, scale, d_act)
        for part in (verbalizer.model, backbone):
            make_room(part, marker)
        return cls(verbalizer, WriteReconstructor(backbone, tokenizer, ar_template, verbalizer.d_act), None, name)

    def explain(self, write: Float[Tensor, "n d_act"], before: Float[Tensor, "n d_act"], **settings: Any) -> list[str]:
        """What each write does, in one sentence (see :mod:`tl_nla.oracle.texts`).

        Args:
            write: writes, in model units.
            before: the states they are added to.
            settings: for :meth:`WriteVerbalizer.generate`; greedy by default.
        """
        with turn(self.turns, self.verbalizer):
            return self.verbalizer.generate(before, write, EXPLAIN, **settings)

    def ask(
        self, question: str, write: Float[Tensor, "n d_act"], before: Float[Tensor, "n d_act"], **settings: Any
    ) -> list[Answer]:
        """Answers to one question about each write.

        Args:
            question: one of :data:`tl_nla.oracle.QUESTIONS`.
            write: writes, in model units.
            before: the states they are added to.
            settings: for :meth:`WriteVerbalizer.generate`; greedy by default.

        Raises:
            InputError: for an unknown question, or vectors that cannot be read.
        """
        check_question(question)
        with turn(self.turns, self.verbalizer):
            texts = self.verbalizer.generate(before, write, question, **settings)
        return [parse_answer(question, text) for text in texts]

    def reconstruct(
        self, texts: Sequence[str], batch_size: int = 256, refined: bool = True
    ) -> Float[Tensor, "n d_act"]:
        """Writes read back from explanations, in model units (see :meth:`WriteReconstructor.reconstruct`)."""
        with turn(self.turns, self.reconstructor):
            return self.reconstructor.reconstruct(texts, batch_size, refined)

    def fit(self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"]) -> None:
        """Take the usual magnitudes from training writes and the states before them.

        Raises:
            InputError: for vectors of a wrong shape or not finite.
        """
        check_acts(write, self.d_model, "writes")
        check_acts(before, self.d_model, "states before")
        self.verbalizer.slots.fit(before, write)
        self.reconstructor.fit(write)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the oracle as safetensors with a YAML sidecar; the folder appears whole or not at all.

        Args:
            folder: where to; a folder that is there is replaced.
            dtype: of the saved weights of transformers, of an encoder of sources and of a refinement, as they are when
                ``None``; slots and heads stay float32.

        Raises:
            InputError: before anything is written, when a weight is not finite, the folder cannot be written to, or
                other files than an oracle's would be lost.
        """
        self._check_finite(dtype)
        folder = self.check_saving(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".saving-") as scratch:
            new = Path(scratch) / folder.name
            new.mkdir()
            save_causal_lm(self.verbalizer.model, self.verbalizer.tokenizer, new / "reader", dtype)
            reconstructor, verbalizer = self.reconstructor, self.verbalizer
            save_backbone(reconstructor.backbone, reconstructor.tokenizer, new / "reconstructor", dtype)
            encoder = self.verbalizer.slots.encoder
            slots = self.verbalizer.slots.state_dict()
            save_file(_tensors({name: slots[name] for name in slots if not name.startswith("encoder.")}), new / _SLOTS)
            if encoder is not None:
                encoder.save(new / _ENCODER, dtype)
            head = {"weight": reconstructor.head.weight, "log_norm_mean": reconstructor.log_norm_mean,
                    "log_norm_std": reconstructor.log_norm_std}  # fmt: skip
            save_file(_tensors(head), new / _HEAD)
            if self.reconstructor.refinement is not None:
                self.reconstructor.refinement.save(new / _REFINEMENT, dtype)
            if self.strength is not None:
                self.strength.save(new / _STRENGTH)
            templates = verbalizer.template, verbalizer.char, reconstructor.template
            values = (1, self.d_model, verbalizer.slots.scale, *templates, self.base)
            sidecar = dict(zip(_KEYS, values, strict=True))
            (new / SIDECAR).write_text(yaml.safe_dump(sidecar, allow_unicode=True, sort_keys=False), encoding="utf-8")
            write_json(record(self.verbalizer.model, None, self.base), new / PROVENANCE)
            replace_folder(new, folder)

    def about(self) -> About:
        """What a card says of the oracle (:func:`tl_nla.sharing.push_to_hub`)."""
        model = self.base or "a model that is not named"
        what = (f"A diff oracle for `{model}`. It reads what an attention head, an attention, an MLP, a block or a "
                f"span writes to the residual stream ({self.d_model} numbers), and the state before it. It explains "
                "the write in words, answers questions about it, and reads words back.")  # fmt: skip
        load = ('import tl_nla\n\noracle = tl_nla.DiffOracle.from_pretrained("{repo}")\n'
                'adapter = tl_nla.HeadDiffAdapter(oracle, layer=5, head=0, positions=-1)')  # fmt: skip
        made = told(record(self.verbalizer.model, None, self.base))
        return About(what, load, self.base, f"{made}.", "diff-oracle")

    @staticmethod
    def check_saving(folder: str | Path) -> Path:
        """Refuse a folder that :meth:`save_pretrained` could not replace; trainings ask before they start."""
        return check_replaceable(folder, SIDECAR, _FILES)

    def _check_finite(self, dtype: torch.dtype | None) -> None:
        small = ("slots.", "reconstructor.head.", "log_norm")
        for part, module in (
            ("the oracle's verbalizer", self.verbalizer),
            ("the oracle's reconstructor", self.reconstructor),
        ):
            state = module.state_dict()
            kept = {name: value for name, value in state.items() if name.startswith(small) and "encoder." not in name}
            check_finite(kept, part)
            check_finite({name: value for name, value in state.items() if name not in kept}, part, dtype)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, dtype: torch.dtype | str | None = torch.float32, device: str = "cpu",
        offload: bool = False,
    ) -> "DiffOracle":  # fmt: skip
        """Load a saved oracle, also one of words (:class:`tl_nla.oracle.words.WordOracle`).

        Args:
            name: local folder or hub id.
            dtype: of the transformers' weights, such as ``"bfloat16"``; as stored when ``None`` or ``"auto"``. Slots
                and heads are always float32.
            device: such as ``"cuda"``.
            offload: whether both parts wait on the CPU and take turns on the device.

        Raises:
            InputError: when a file is missing or damaged, or does not fit the others; for an unknown precision or
                device, or ``offload`` to the CPU.

        Example:
            >>> oracle = DiffOracle.from_pretrained("my_oracle", dtype="bfloat16", device="cuda")
        """
        dtype, device = known_dtype(dtype), known_device(device)
        folder = local_folder(name, below=True)
        if (folder / WORDS_SIDECAR).is_file():
            from tl_nla.oracle.words import WordOracle

            return WordOracle.from_pretrained(folder)
        values = _read_sidecar(folder / SIDECAR)
        model = load_causal_lm(folder / "reader", dtype)
        verbalizer = WriteVerbalizer(
            model, load_tokenizer(folder / "reader"), values["template"], values["injection_char"], values["scale"],
            values["d_act"],
        )  # fmt: skip
        _load(verbalizer.slots, read_safetensors(folder / _SLOTS), folder / _SLOTS)
        if (folder / _ENCODER).is_file():
            verbalizer.use_encoder(SourceEncoder.load(folder / _ENCODER))
        part = load_causal_lm(folder / "reconstructor", dtype, headless=True)
        backbone = cut_backbone(part, len(decoder_layers(part)), copy=False)
        tokenizer = load_tokenizer(folder / "reconstructor")
        reconstructor = WriteReconstructor(backbone, tokenizer, values["reconstructor_template"], values["d_act"])
        head = read_safetensors(folder / _HEAD)
        _load(reconstructor.head, {"weight": head.pop("weight", torch.zeros(()))}, folder / _HEAD)
        for key, value in head.items():
            getattr(reconstructor, key).copy_(value)
        if (folder / _REFINEMENT).is_file():
            reconstructor.use_refinement(Refinement.load(folder / _REFINEMENT))
        known = (folder / _STRENGTH).is_file()
        strength = StrengthReference.load(folder / _STRENGTH) if known else None
        oracle = cls(verbalizer, reconstructor, strength, str(values["base"])).eval()
        oracle.turns = placed(oracle, device, offload)
        saved = read_json(folder / PROVENANCE) if (folder / PROVENANCE).is_file() else {}
        oracle.provenance = compared(saved, record(model, None, oracle.base), str(name))
        return oracle


def _tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().float().cpu().contiguous().clone() for name, value in state.items()}


def _load(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != found:
        raise InputError(f"{path} holds {found}, expected {wanted}; it belongs to another oracle")
    module.load_state_dict(state)


def _read_sidecar(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"no {SIDECAR} in {path.parent}; it is no folder of a diff oracle")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    missing = [key for key in _KEYS if not isinstance(values, dict) or key not in values]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; save the oracle again")
    if values["version"] != 1:
        raise InputError(f"{path} has version {values['version']!r}; this release reads version 1")
    for key, kinds in (("scale", (int, float)), ("d_act", int)):
        found = values[key]
        if isinstance(found, bool) or not isinstance(found, kinds) or not 0 < found < math.inf:
            raise InputError(f"{path} has {key} {found!r}; it must be a number above 0, there is no default for it")
    return values
