"""The ``context`` arm: a reader of raw text with the start, rows, steps and rates of the shipped reconstructor."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import yaml

from docs.studies.smollm2_nla.ship import CONFIGS
from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.settings import CorpusConfig, ServingConfig, WordsConfig
from lightning_modules.training.warm_start import ReconstructorWarmStart
from tl_nla.cli.training import configs_folder
from tl_nla.data import ExplainedStates
from tl_nla.metrics import normalise
from tl_nla.model.placement import Placement
from tl_nla.nla import NLA
from tl_nla.nla.adapted import AdaptedPair
from tl_nla.nla.adapted_files import load_adapted


def train_context_reader(states: Path, corpus: Path) -> NLA:
    """Train a reconstructor on raw contexts as long as the explanations.

    Args:
        states: that the training of the shipped pair kept.
        corpus: folder of ``make corpus``.
    """
    told: dict[str, Any] = yaml.safe_load((configs_folder() / CONFIGS[0]).read_text(encoding="utf-8"))
    data, model, trainer = told["data"]["init_args"], told["model"]["init_args"], told["trainer"]
    texts = CorpusConfig(**{**data["corpus"], "source": str(corpus / "train.jsonl"), "cache_dir": str(states)})
    module = ActivationDataModule(
        data["model"], None, data["site"], texts, WordsConfig(**data["words"]), ServingConfig(**data["serving"]),
        Placement(**data["placement"]),
    )  # fmt: skip
    module.setup()
    L.seed_everything(told["seed_everything"])
    nla = load_adapted(data["model"], AdaptedPair(**model["nla"]["init_args"]["pair"]))
    fit = L.Trainer(
        accelerator="cpu", precision=trainer["precision"], max_steps=trainer["max_steps"],
        gradient_clip_val=trainer["gradient_clip_val"], limit_val_batches=0, logger=False, enable_checkpointing=False,
    )  # fmt: skip
    training = ReconstructorWarmStart(nla=nla, learning_rate=model["learning_rate"])
    fit.fit(training, datamodule=module.on_contexts())
    return nla.eval()


def add_context(path: Path, states: ExplainedStates, reader: NLA) -> None:
    """Add the arm ``context`` to stored rows.

    Args:
        path: of the rows.
        states: the same held-out states, in order.
        reader: of :func:`train_context_reader`.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    errors = (normalise(reader.reconstruct(states.contexts, 64)) - normalise(states.acts)).square().sum(1).tolist()
    for row, error in zip(rows, errors, strict=True):
        row["errors"]["context"] = round(error, 2)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
