"""Explanations that a JSON-lines file brings are what is trained on."""

import json

import lightning as L
import pytest

from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.training.warm_start import VerbalizerWarmStart
from tests import zoo
from tests.lightning_modules.data.test_activations import SITE
from tl_nla.errors import InputError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def text(number):
    return " ".join(f"w{i}" for i in zoo.tokens(1, 8, seed=number)[0].tolist())


def module(get_model, source, **settings):
    return ActivationDataModule(
        get_model("bridge", "llama"), zoo.tokenizer(), SITE, source, documents=40, batch_size=8, heldout=0.3, **settings
    )


def test_a_column_is_used_without_being_asked_for(get_model, tmp_path):
    rows = [{"text": text(n), "explanation": f"code word w{n}"} for n in range(30)]
    data = module(get_model, write(tmp_path / "own.jsonl", [*rows, {"text": text(99)}]))
    data.setup()
    states = [data.train_states, data.heldout_states]
    said = [told for side in states for told in side.explanations]
    assert sorted(said) == sorted(f"code word w{n}" for n in range(30)), "the row without one is left out"
    assert all((side.position == side.position.max()).all() for side in states), "a text explains its last token"


def test_explanations_of_single_tokens(get_model, tmp_path):
    rows = [{"text": text(n), "explanation": [None, f"one {n}", None, f"three {n}"] + [None] * 4} for n in range(30)]
    data = module(get_model, write(tmp_path / "own.jsonl", rows), explainer="column", positions_per_document=1)
    data.setup()
    begins = 1 if data.train_states.position.max() == 4 else 0
    for told, position in zip(data.train_states.explanations, data.train_states.position.tolist(), strict=True):
        assert told.split()[0] == {1 + begins: "one", 3 + begins: "three"}[position]


def test_another_explainer_may_be_asked_for(get_model, tmp_path):
    rows = [{"text": text(n), "explanation": "own"} for n in range(30)]
    source = write(tmp_path / "own.jsonl", rows)
    data = module(get_model, source, explainer=lambda moment: f"ends in {moment.recent.split()[-1]}")
    data.setup()
    assert all(told.startswith("ends in w") for told in data.train_states.explanations)
    with pytest.raises(InputError, match="mechanical"):
        module(get_model, source, explainer="mechanic")
    bare = module(get_model, write(tmp_path / "bare.jsonl", [{"text": text(n)} for n in range(30)]), explainer="column")
    with pytest.raises(InputError, match="no document brings an explanation"):
        bare.setup()


def test_a_warm_start_says_what_the_column_says(get_model, tmp_path):
    from tests.nla.test_pair import make

    rows = [{"text": text(n), "explanation": "red"} for n in range(40)]
    data = module(get_model, write(tmp_path / "own.jsonl", rows))
    nla = make()
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=150, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(VerbalizerWarmStart(nla=nla, learning_rate=6e-3), datamodule=data)
    said = nla.verbalize(data.heldout_states.acts[:4], max_new_tokens=60)
    assert all(words == "red" for words in said), said
