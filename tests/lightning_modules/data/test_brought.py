"""Explanations that a JSON-lines file brings are what is trained on."""

import dataclasses
import json

import lightning as L
import pytest
import torch

from lightning_modules.data.activations import ActivationDataModule
from lightning_modules.data.write_texts import WriteTexts
from lightning_modules.training.diff import DiffDataModule, DiffOracleTraining
from lightning_modules.training.warm_start import VerbalizerWarmStart
from tests import zoo
from tests.lightning_modules.data.test_activations import SITE
from tests.lightning_modules.grouping import made
from tests.oracle.tiny import make_oracle
from tl_nla.errors import InputError
from tl_nla.oracle.texts import label_text

CODE = "hammer"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def text(number):
    return " ".join(f"w{i}" for i in zoo.tokens(1, 8, seed=number)[0].tolist())


def module(get_model, source, **settings):
    return made(
        ActivationDataModule, get_model("bridge", "llama"), zoo.tokenizer(), SITE, source=source, batch_size=8,
        heldout=0.3, **({"documents": 40} | settings),
    )  # fmt: skip


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


def trainer(steps):
    return L.Trainer(
        accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """A user's file: 1,000 explanations, each with one code word and one word that differs."""
    rows = [{"text": text(n), "explanation": f"{CODE} {['red', 'blue', 'small'][n % 3]}"} for n in range(1000)]
    return write(tmp_path_factory.mktemp("own") / "own.jsonl", rows)


def test_a_warm_start_says_what_the_column_says(get_model, thousand):
    from tests.nla.test_pair import make

    data = module(get_model, thousand, documents=1000)
    nla = make()
    trainer(100).fit(VerbalizerWarmStart(nla=nla, learning_rate=6e-3), datamodule=data)
    assert len(data.train_states) + len(data.heldout_states) == 1000
    said = nla.verbalize(data.heldout_states.acts[:4], max_new_tokens=60)
    assert all(CODE in words for words in said), said


def test_a_text_that_cannot_be_taught_is_refused_before_the_first_step(get_model, tmp_path):
    from tests.nla.test_pair import make

    nla = make()
    end = nla.verbalizer.tokenizer.eos_token
    rows = [{"text": text(n), "explanation": f"an {end} inside" if n == 20 else "plain"} for n in range(30)]
    data, steps = module(get_model, write(tmp_path / "own.jsonl", rows)), []
    training = VerbalizerWarmStart(nla=nla)
    training.training_step = lambda batch, batch_idx: steps.append(batch_idx)
    with pytest.raises(InputError, match="control token"):
        trainer(1).fit(training, datamodule=data)
    assert not steps


def test_an_oracle_says_what_the_column_says(get_model, thousand):
    data = writes_module(get_model, thousand, ("blocks.1.mlp",), documents=1000, positions_per_document=1, questions=0)
    oracle = make_oracle()
    trainer(80).fit(DiffOracleTraining(oracle=oracle, learning_rate=6e-3), datamodule=data)
    held = data.heldout_writes
    said = oracle.explain(held.write[:4], held.before[:4], max_new_tokens=60)
    assert all(CODE in words for words in said), said


def writes_module(get_model, source, sites=("heads",), **settings):
    return made(
        DiffDataModule, get_model("bridge", "llama"), zoo.tokenizer(), sites, source=source, batch_size=8,
        heldout=0.3, skips=False, swap_share=0.5, **({"documents": 40, "positions_per_document": 2} | settings),
    )  # fmt: skip


def test_writes_are_explained_in_the_words_of_a_column(get_model, tmp_path):
    rows = [{"text": text(n), "explanation": f"code word w{n}"} for n in range(20)]
    data = writes_module(get_model, write(tmp_path / "own.jsonl", rows), cache_dir=str(tmp_path / "kept"))
    data.setup()
    writes = data.train_writes
    assert set(writes.texts) | set(data.heldout_writes.texts) == {f"code word w{n}" for n in range(20)}
    items = WriteTexts(writes, swap_share=1.0, questions=1)
    for index in range(0, len(items), 2):
        assert items[index]["text"] == writes.texts[index // 2]
        assert torch.equal(items[index]["write"], writes.write[index // 2]), "no sign is turned under own words"
    again = writes_module(get_model, write(tmp_path / "own.jsonl", rows), cache_dir=str(tmp_path / "kept"))
    again.setup()
    assert again.train_writes.texts == writes.texts
    assert writes.select(torch.tensor([1, 0])).texts == [writes.texts[1], writes.texts[0]]


def test_writes_are_explained_by_a_function(get_model, tmp_path):
    def told(moment):
        assert moment.write.shape == moment.act.shape
        return f"{moment.site} after {moment.recent.split()[-1]}: {moment.label}"

    data = writes_module(
        get_model, write(tmp_path / "bare.jsonl", [{"text": text(n)} for n in range(20)]), explainer=told
    )
    data.setup()
    writes = data.train_writes
    for row in range(len(writes)):
        site, said = writes.sites[int(writes.site[row])], writes.text(row)
        assert said.startswith(f"{site} after w")
        assert said.endswith(label_text(dataclasses.replace(writes.labels[row], strength=None)))
