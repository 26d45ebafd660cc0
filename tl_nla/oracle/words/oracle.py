"""A diff oracle of words: no network; fitted to a model in minutes, and small beside the model's own tables."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float, Int
from torch import Tensor, nn

from tl_nla.errors import InputError
from tl_nla.model.files import local_folder
from tl_nla.model.saving import replace_folder
from tl_nla.nla.provenance import versions
from tl_nla.oracle.labels import StrengthReference
from tl_nla.oracle.oracle import WORDS_SIDECAR, DiffOracle
from tl_nla.oracle.words.code import WordCode
from tl_nla.oracle.words.fitting import FitConfig, WritesBySite, fit_code
from tl_nla.oracle.words.parts import WordReconstructor, WordVerbalizer
from tl_nla.oracle.words.tables import WordTables, frequent_words
from tl_nla.outputs import check_replaceable
from tl_nla.sharing import About

_CODE, _TABLES, _STRENGTH = "code.safetensors", "tables.safetensors", "strength.safetensors"
_VERSION, _READ = 3, (2, 3)
"""Of the files that are written, and of those that are read: the first one told words in another way; in the second one
all components choose from all words."""


class WordOracle(DiffOracle):
    """Explains writes in words that their reader can add up again (:class:`tl_nla.oracle.words.WordCode`).

    It has the methods of :class:`tl_nla.oracle.DiffOracle`. ``explain`` also takes ``words`` (how many) and ``sites``
    (which component each write is from; told from the vectors otherwise). It answers ``promotes``, ``suppresses`` and
    ``alignment``, and no other question.

    Args:
        code: fitted.
        strength: what norms are usual.
        base: name of the model.
        made: how it was made, kept with it.
    """

    def __init__(
        self, code: WordCode, strength: StrengthReference, base: str = "", made: dict[str, Any] | None = None
    ) -> None:
        nn.Module.__init__(self)
        self.verbalizer: Any = WordVerbalizer(code, strength)
        self.reconstructor: Any = WordReconstructor(code, strength)
        self.code, self.usual, self.strength = code, strength, strength
        self.base, self.made = base, dict(made or {})
        self.provenance, self.turns = {}, None

    @classmethod
    def fitted(
        cls, model: Any, tokenizer: Any, writes: WritesBySite, counts: Int[Tensor, " vocab"],
        config: FitConfig | None = None, base: str = "", keep: Path | None = None,
    ) -> "WordOracle":  # fmt: skip
        """Fit an oracle to a model; deterministic.

        Args:
            model: a TransformerLens model.
            tokenizer: its tokenizer.
            writes: by site, states before and writes on training documents, in model units. Some hundred of each are
                needed, a thousand are better.
            counts: how often each token occurs in the training documents.
            config: words and passes.
            base: name of the model.
            keep: folder in which what was fitted is kept, and gone on with by a run that was interrupted.

        Raises:
            InputError: for a model whose read-out is not known, or writes too few.

        Example:
            >>> oracle = WordOracle.fitted(model, tokenizer, by_site(training), token_counts(documents))
        """
        config = config or FitConfig()
        most = max(config.head_words, config.other_words)
        tables = WordTables.of(model, frequent_words(tokenizer, counts, most), list(writes))
        return cls(*fit_code(tables, writes, config, keep), base)

    @property
    def meaning(self) -> dict[str, tuple[float, float, float]]:
        """By site, how much better a blind reader tells a write's effect from its words than from permuted ones.

        Rank correlations with the effect on ten likely words, their difference and its 95% interval, as they were
        measured and noted (``made["meaning"]``); empty where nobody did. Where the interval holds 0, the words are no
        more than a code.
        """
        found = self.made.get("meaning") or {}
        return {str(site): (float(value), float(low), float(high)) for site, (value, low, high) in found.items()}

    def reconstruct(
        self, texts: Sequence[str], batch_size: int = 256, refined: bool = True
    ) -> Float[Tensor, "n d_act"]:
        """Writes read back from explanations, in model units (:meth:`WordReconstructor.reconstruct`)."""
        found: Tensor = self.reconstructor.reconstruct(texts, batch_size, refined)
        return found

    def fit(self, before: Float[Tensor, "n d_act"], write: Float[Tensor, "n d_act"]) -> None:
        """Nothing is left to be fitted."""

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None, tables: bool = True) -> None:
        """Write the oracle as safetensors with a YAML sidecar; the folder appears whole or not at all.

        Args:
            folder: where to; a folder that is there is replaced.
            dtype: for other oracles; precisions are fixed here.
            tables: with the directions of words and the bases of heads, which the model could also give
                (:meth:`from_pretrained`).

        Raises:
            InputError: before anything is written, when the folder cannot be written to, or other files than an
                oracle's would be lost.
        """
        folder = self.check_saving(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".saving-") as scratch:
            new = Path(scratch) / folder.name
            new.mkdir()
            self.code.save(new / _CODE)
            if tables:
                self.code.tables.save(new / _TABLES)
            self.usual.save(new / _STRENGTH)
            sidecar = {"version": _VERSION, "base": self.base, "about": self.made}
            shown = yaml.safe_dump(sidecar, allow_unicode=True, sort_keys=False)
            (new / WORDS_SIDECAR).write_text(shown, encoding="utf-8")
            replace_folder(new, folder)

    def about(self) -> About:
        """What a card says of the oracle (:func:`tl_nla.sharing.push_to_hub`)."""
        model = self.base or "a model that is not named"
        what = (f"An oracle of words for `{model}`: words for what {len(self.code.sites)} components write to the "
                f"residual stream ({self.d_model} numbers), and read back.")  # fmt: skip
        load = 'import tl_nla\n\noracle = tl_nla.DiffOracle.from_pretrained("{repo}")'
        libraries = ", ".join(f"{name} {version}" for name, version in versions().items())
        return About(what, load, self.base, f"{libraries}.", "diff-oracle")

    @staticmethod
    def check_saving(folder: str | Path) -> Path:
        """Refuse a folder that :meth:`save_pretrained` could not replace."""
        return check_replaceable(folder, WORDS_SIDECAR, (WORDS_SIDECAR, _CODE, _TABLES, _STRENGTH))

    @classmethod
    def from_pretrained(
        cls, name: str | Path, dtype: torch.dtype | str | None = torch.float32, device: str = "cpu",
        offload: bool = False, model: Any = None,
    ) -> "WordOracle":  # fmt: skip
        """Load a saved oracle.

        Args:
            name: local folder or hub id.
            dtype: for other oracles.
            device: for other oracles; words are chosen on the CPU.
            offload: for other oracles.
            model: the TransformerLens model that it explains; needed where the folder holds no tables.

        Raises:
            InputError: when a file is missing or damaged, or tables are neither there nor given.
        """
        folder = local_folder(name, below=True)
        try:
            values = yaml.safe_load((folder / WORDS_SIDECAR).read_text(encoding="utf-8"))
            base, made, version = str(values["base"]), dict(values["about"]), values["version"]
        except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder / WORDS_SIDECAR} is not that of an oracle of words") from error
        if version not in _READ:
            readable = " and ".join(map(str, _READ))
            raise InputError(f"{folder} is of version {version}, this tl-nla reads {readable}; "
                             "update tl-nla, or fit the oracle again: tl-nla fit-oracle")  # fmt: skip
        code = WordCode.load(folder / _CODE)
        if model is not None:
            tables = WordTables.of(model, (code.tables.token, code.text), code.sites)
        elif (folder / _TABLES).is_file():
            tables = WordTables.load(folder / _TABLES, code.text)
        else:
            raise InputError(f"{folder} holds no {_TABLES}; give the model that the oracle explains: model=...")
        strength = StrengthReference.load(folder / _STRENGTH)
        return cls(code.with_tables(tables), strength, base, made)
