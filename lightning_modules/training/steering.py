"""Large steering sweeps as Lightning's ``predict``: every prompt with every mode and strength."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader

from lightning_modules.base import default_float32
from lightning_modules.outputs import fast_dev_run
from tl_nla.adapters import SteeringAdapter, attach
from tl_nla.amounts import check_count, check_number
from tl_nla.data.lines import json_rows
from tl_nla.errors import InputError, unknown
from tl_nla.model.text import checked
from tl_nla.outputs import check_file
from tl_nla.paths import user_path
from tl_nla.steering import Rewriter, compose, expect, parse_rewrite
from tl_nla.steering.change import MODES


@dataclass(frozen=True)
class SteeringPrompt:
    """A prompt and the edit of its words.

    Attributes:
        prompt: any text.
        rewrite: such as ``"red->yellow"``; may be empty where ``expect`` is given.
        expect: the next word that the explanation shall expect.
    """

    prompt: str
    rewrite: str = ""
    expect: str = ""

    def __post_init__(self) -> None:
        for name, text in asdict(self).items():
            checked(text, name)
        if not self.prompt or not (self.rewrite or self.expect):
            raise InputError(f"prompt {self.prompt!r} needs text and an edit: rewrite 'red->yellow', or expect")

    def rewriter(self) -> Rewriter:
        """The edit as a function."""
        parts = [parse_rewrite(self.rewrite)] if self.rewrite else []
        return compose(*parts, *([expect(self.expect)] if self.expect else []))


class SteeringPrompts(L.LightningDataModule):
    """Serves prompts with their edits.

    Args:
        source: a ``.jsonl`` file with ``prompt`` and ``rewrite`` or ``expect`` in each line, or the prompts themselves.
        batch_size: prompts a batch; those of one length run together.
    """

    def __init__(self, source: str | Sequence[SteeringPrompt], batch_size: int = 16) -> None:
        super().__init__()
        check_count("batch_size", batch_size)
        self.prompts = _from_file(source) if isinstance(source, str) else list(source)
        self.batch_size = batch_size
        if not self.prompts:
            raise InputError("there are no prompts to steer; give at least one")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The prompts in their order, as dictionaries: Lightning takes what it serves apart, frozen objects refuse."""
        return DataLoader(self.prompts, batch_size=self.batch_size, collate_fn=_as_dictionaries)  # type: ignore[arg-type]


class SteeringSweep(L.LightningModule):
    """Steers each prompt in every mode and at every strength; ``predict`` gives one dictionary a run.

    Keys: ``prompt``, ``mode``, ``strength``, ``unsteered`` and ``steered`` (greedy continuations), ``before`` and
    ``after`` (words of the last prompt token's state), ``size`` (norm of its change over its own).

    Args:
        model: ``"tiny"``, a local folder or a hub id.
        nla: folders of verbalizer and reconstructor; may be left out for ``"tiny"`` only.
        modes: some of ``"delta"`` and ``"replace"``.
        strengths: see :class:`tl_nla.adapters.SteeringAdapter`.
        new_tokens: how many are generated.
        generated: steer generated tokens as well as the prompt's last.
        prepend_bos: whether prompts get a begin token, see :func:`tl_nla.model.targets.load_target`.
    """

    def __init__(
        self, model: str = "tiny", nla: list[str] | None = None, modes: Sequence[str] = ("delta",),
        strengths: Sequence[float] = (1.0,), new_tokens: int = 16, generated: bool = False,
        prepend_bos: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        for mode in modes:
            if mode not in MODES:
                raise unknown("mode", mode, MODES)
        if not modes or not strengths:
            raise InputError("modes and strengths have to name at least one each")
        for strength in strengths:
            check_number("strength", strength)
        check_count("new_tokens", new_tokens)
        self.modes, self.strengths, self.new_tokens, self.generated = modes, strengths, new_tokens, generated
        self._names = (model, nla, prepend_bos)
        self._pair: tuple[Any, Any] | None = None

    def pair(self) -> tuple[Any, Any]:
        """The target and its NLA, loaded when first asked for."""
        if self._pair is None:
            from tl_nla.cli.explaining import load_pair

            self._pair = load_pair(*self._names)
        return self._pair

    @default_float32()
    @torch.no_grad()
    def predict_step(self, batch: list[dict[str, str]], batch_idx: int) -> list[dict[str, Any]]:
        """All runs of a batch of prompts, prompt by prompt in their order."""
        from tl_nla.cli.explaining import encode_text

        target, _ = self.pair()
        prompts = [SteeringPrompt(**one) for one in batch]
        texts = [encode_text(target, one.prompt).ids for one in prompts]
        encoded = [(len(ids), place, ids) for place, ids in enumerate(texts)]
        runs: list[tuple[int, dict[str, Any]]] = []
        for _, group in groupby(sorted(encoded), key=lambda row: row[0]):
            places, rows = zip(*((place, ids) for _, place, ids in group), strict=True)
            runs += self._steer([prompts[place] for place in places], places, torch.tensor(rows))
        return [run for _, run in sorted(runs, key=lambda run: run[0])]

    def _steer(
        self, prompts: list[SteeringPrompt], places: Sequence[int], tokens: torch.Tensor
    ) -> list[tuple[int, dict[str, Any]]]:
        target, nla = self.pair()
        length, runs = tokens.shape[1], []
        settings = {"max_new_tokens": self.new_tokens, "do_sample": False, "verbose": False}
        unsteered = target.model.generate(tokens, **settings)[:, length:]
        for mode in self.modes:
            for strength in self.strengths:
                adapter = SteeringAdapter(nla, f"blocks.{nla.layer}.hook_resid_post",
                                          [one.rewriter() for one in prompts], mode, strength, slice(-1, None),
                                          generated=self.generated)  # fmt: skip
                with attach(target.model, adapter):
                    steered = target.model.generate(tokens, **settings)[:, length:]
                last = {row.batch: row for row in adapter.results() if row.position == length - 1}
                for number, (place, one) in enumerate(zip(places, prompts, strict=True)):
                    said = {name: target.tokenizer.decode(text[number], skip_special_tokens=True)
                            for name, text in (("unsteered", unsteered), ("steered", steered))}  # fmt: skip
                    edit = {name: getattr(last[number], name) for name in ("before", "after", "size")}
                    runs.append((place, {"prompt": one.prompt, "mode": mode, "strength": strength, **said, **edit}))
        return runs


class SteeringWriter(BasePredictionWriter):
    """Writes each batch's runs as lines of JSON, in the order of the batches; nothing in ``fast_dev_run``.

    Args:
        path: the file; begun anew by each ``predict``.
    """

    def __init__(self, path: str) -> None:
        super().__init__("batch")
        self.path = user_path(path)

    def check_outputs(self, stage: str) -> None:
        """Refuse a file that cannot be written."""
        if stage == "predict":
            check_file(self.path)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the file.

        Raises:
            InputError: when it cannot be written.
        """
        self.check_outputs("predict")
        if not fast_dev_run(trainer):
            self.path.write_text("", encoding="utf-8")

    def write_on_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, prediction: Any, batch_indices: Any, batch: Any,
        batch_idx: int, dataloader_idx: int,
    ) -> None:  # fmt: skip
        """Append the runs of a batch."""
        if fast_dev_run(trainer):
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(run, ensure_ascii=False) + "\n" for run in prediction)


def _as_dictionaries(prompts: list[SteeringPrompt]) -> list[dict[str, str]]:
    return [asdict(one) for one in prompts]


def _from_file(path: str) -> list[SteeringPrompt]:
    prompts = []
    for where, row in json_rows(path):
        try:
            prompts.append(SteeringPrompt(**row))
        except (InputError, TypeError) as error:
            raise InputError(f"{where}: {error}; give prompt and rewrite or expect") from None
    return prompts
