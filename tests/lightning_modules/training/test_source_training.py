"""The encoder of source slots as a Lightning training."""

import lightning as L
import pytest
import torch

from lightning_modules import DiffDataModule, DiffOracleTraining, SaveOracle, SourceDataModule, SourceEncoderTraining
from tests.lightning_modules.grouping import made
from tests.oracle.tiny import make_oracle
from tl_nla.errors import InputError
from tl_nla.oracle import DiffOracle
from tl_nla.oracle.questions import parse_answer
from tl_nla.storyworld.documents import world_documents

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "enable_checkpointing": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    found = made(SourceDataModule, "tiny", source=world_documents(24, 0), documents=24, batch_size=64, heldout=0.2)
    found.setup()
    return found


def test_words_of_both_splits_have_the_same_numbers(data):
    words = {word.casefold() for word in data.words}
    assert len(words) == len(data.words) > 20
    for examples in (data.train_examples, data.heldout_examples):
        assert -1 == int(examples.words.min()) < int(examples.words.max()) < len(words)
    assert len(data.heldout_examples) < len(data.train_examples)


def test_it_is_fitted_and_saved_and_the_reader_goes_on_from_there(data, tmp_path):
    oracle = DiffOracle.create(*_tiny())
    module = SourceEncoderTraining(hidden=32, learning_rate=3e-3, oracle=oracle)
    trainer = L.Trainer(max_epochs=3, callbacks=[SaveOracle(str(tmp_path / "oracle"))], **QUIET)
    trainer.fit(module, data)
    first, last = float(_untrained_loss(data)), float(trainer.callback_metrics["val/loss"])
    assert last < first - 1
    assert 0 < float(trainer.callback_metrics["val/recall_at_3"]) < 1
    found = DiffOracle.from_pretrained(tmp_path / "oracle")
    assert found.verbalizer.slots.count == 6
    assert found.verbalizer.slots.encoder.words == tuple(data.words)
    before, write = data.heldout_examples.before[:3].float(), data.heldout_examples.write[:3].float()
    torch.testing.assert_close(found.verbalizer.slots.encoder(before, write), module.encoder(before, write))

    training = DiffOracleTraining(oracle=found)
    items = made(
        DiffDataModule, "tiny", source=world_documents(8, 0), documents=8, heldout=0.3, sources_share=1.0, skips=False
    )
    weights = found.verbalizer.slots.encoder.out.weight.clone()
    L.Trainer(max_steps=2, limit_val_batches=1, **QUIET).fit(training, items)
    assert torch.equal(found.verbalizer.slots.encoder.out.weight, weights)
    taught_its_own_words(training, next(iter(items.train_dataloader())))


def taught_its_own_words(training, batch):
    reader, loss, texts = training.verbalizer, training.verbalizer.loss, []
    reader.loss = lambda before, write, questions, right: texts.extend(right) or loss(before, write, questions, right)
    training.log = lambda *args, **settings: None
    training.training_step(batch, 0)
    del reader.loss
    named = reader.slots.encoder.name(batch["before"], batch["write"])
    replaced = [
        row
        for row, question in enumerate(batch["questions"])
        if question == "sources" and not batch["texts"][row].startswith("none")
    ]
    assert replaced
    assert all(parse_answer("sources", texts[row]).tokens == tuple(named[row]) for row in replaced)
    kept = set(range(len(texts))) - set(replaced)
    assert all(texts[row] == batch["texts"][row] for row in kept)


def test_recall_is_that_of_the_three_most_probable_words(data):
    module = SourceEncoderTraining(hidden=8, oracle=make_oracle(d_act=128))
    trainer = L.Trainer(**QUIET)
    told = trainer.validate(module, data, verbose=False)[0]["val/recall_at_3"]
    named = module.encoder.name(data.heldout_examples.before.float(), data.heldout_examples.write.float())
    hits = total = 0
    for words, row in zip(named, data.heldout_examples.words.tolist(), strict=True):
        right = {data.words[place] for place in row if place >= 0}
        hits, total = hits + len(right & set(words)), total + len(right)
    assert told == pytest.approx(hits / total, rel=1e-4)


def test_mistakes_are_told(data):
    with pytest.raises(InputError, match="fit it with a SourceDataModule"):
        L.Trainer(**QUIET).validate(SourceEncoderTraining(oracle=make_oracle()), data.val_dataloader())
    with pytest.raises(InputError, match="sources_share is 2"):
        made(DiffDataModule, "tiny", sources_share=2.0)
    short = made(
        SourceDataModule, "tiny", source=[type(d)(d.id, d.text[:30]) for d in world_documents(8, 0)], heldout=0.3
    )
    with pytest.raises(InputError, match="give longer documents"):
        short.setup()


def _tiny():
    from tl_nla.model.loading import load_causal_lm, load_tokenizer
    from tl_nla.model.targets import model_folder

    return load_causal_lm(model_folder("tiny"), torch.float32), load_tokenizer(model_folder("tiny"))


def _untrained_loss(data):
    from lightning_modules.training.source_encoder import EncoderConfig, new_encoder

    found = data.heldout_examples
    encoder = new_encoder(make_oracle(d_act=128).verbalizer, data.words, EncoderConfig(hidden=32))
    with torch.no_grad():
        return encoder.loss(found.before.float(), found.write.float(), found.words)
