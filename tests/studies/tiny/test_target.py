"""Training of the embedded target: weights of the loss, optimisers by shape, a schedule that ends at nothing."""

import pytest
import torch

from docs.studies.tiny.corpus import CorpusConfig, TrainingDocument, training_batches
from docs.studies.tiny.model import TargetConfig
from docs.studies.tiny.target import TargetTraining, pad_documents, train_target, weighted_next_token_loss
from docs.studies.tiny.tokenizer import build_tokenizer

SMALL = TargetConfig(d_model=32, d_mlp=48, n_layers=2, n_heads=2, n_key_value_heads=1, d_head=16)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_padding_weighs_nothing():
    batch = pad_documents([TrainingDocument([5, 6, 7], [0.0, 1.0, 2.0]), TrainingDocument([8], [1.0])], 0)
    assert batch["ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["weights"].tolist() == [[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]]


def test_the_loss_weighs_each_token_as_a_target():
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    log = logits.log_softmax(-1)
    found = weighted_next_token_loss(logits, torch.tensor([[1, 2, 3]]), torch.tensor([[9.0, 1.0, 3.0]]))
    torch.testing.assert_close(found, -(log[0, 0, 2] + 3 * log[0, 1, 3]) / 4)


def test_every_weight_has_one_optimiser_and_matrices_of_blocks_are_muons(tokenizer):
    module = TargetTraining(tokenizer, 10, target=SMALL)
    (muon, adam), schedules = module.configure_optimizers()
    parts = [{id(p) for group in one.param_groups for p in group["params"]} for one in (muon, adam)]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {id(p) for p in module.model.parameters()}
    names = {id(p): name for name, p in module.model.named_parameters()}
    assert all("layers" in names[p] for p in parts[0])
    assert len(schedules) == 2
    for schedule, peak in zip(schedules, (module.learning_rate, module.learning_rate / 10), strict=True):
        schedule.optimizer.step()
        found = [schedule.get_last_lr()[0] / peak]
        for _ in range(10):
            schedule.step()
            found.append(schedule.get_last_lr()[0] / peak)
        assert [round(found[step], 3) for step in (0, 5, 10)] == [0.02, 0.12, 0.0]


def held_out_loss(model, tokenizer):
    documents = next(iter(training_batches(tokenizer, CorpusConfig(tokens=400, seed=9), 1)))
    batch = pad_documents(documents, 0)
    with torch.no_grad():
        logits = model(input_ids=batch["ids"]).logits
    return float(weighted_next_token_loss(logits, batch["ids"], batch["weights"]))


def train(tokenizer, steps):
    return train_target(tokenizer, steps, CorpusConfig(tokens=400), SMALL, enable_progress_bar=False)


def test_training_learns(tokenizer):
    trained = train(tokenizer, 40)
    assert not trained.training
    untrained = TargetTraining(tokenizer, 1, target=SMALL).model.eval()
    assert held_out_loss(trained, tokenizer) < held_out_loss(untrained, tokenizer) - 0.3


def test_training_repeats_itself(tokenizer):
    one, other = train(tokenizer, 3), train(tokenizer, 3)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
