import pytest
import torch

from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.nla.rollouts import BuiltInBackend, RolloutConfig, token_logprobs
from tl_nla.oracle.policy import SIZE_WEIGHT, WritePair, WritePolicy, side_by_side, write_errors, write_of
from tl_nla.oracle.slots import log_norm


@pytest.fixture(scope="module")
def oracle():
    return make_oracle()


def test_both_vectors_come_back(oracle):
    before, write = vectors(5)
    acts = side_by_side(before, write)
    assert acts.shape == (5, 2 * oracle.d_model)
    assert torch.equal(write_of(acts), write)


def test_greedy_words_are_the_readers_own(oracle):
    before, write = vectors(5)
    pair = WritePair(oracle)
    found = pair.generate(side_by_side(before, write), 12)
    assert found.texts == oracle.verbalizer.generate(before, write, max_new_tokens=12)
    assert found.extracted.tolist() == found.responses.finished.tolist()
    assert found.answers.form == "all", "no tags"


def test_rollouts_come_with_the_log_probabilities_of_the_policy(oracle):
    acts, config = side_by_side(*vectors(3)), RolloutConfig(group=4, max_new_tokens=9)
    policy = WritePolicy(oracle.verbalizer)
    found = BuiltInBackend().sample(policy, acts, config, torch.Generator().manual_seed(1))
    assert len(found.texts) == 12
    assert len(set(found.texts)) > 3
    again = token_logprobs(policy, acts.repeat_interleave(4, 0), found.ids, found.mask)
    torch.testing.assert_close(again.detach(), found.logprobs, atol=1e-4, rtol=0)


def test_errors_are_those_of_direction_and_size(oracle):
    _, write = vectors(4)
    texts = ["It promotes a", "It promotes b", "", "It suppresses c; strength one"]
    errors, trained = write_errors(oracle.reconstructor, texts, write)
    back = oracle.reconstruct(texts)
    torch.testing.assert_close(errors, (normalise(back) - normalise(write)).square().mean(-1), atol=1e-4, rtol=1e-4)
    told = (log_norm(back) - oracle.reconstructor.log_norm_mean) / oracle.reconstructor.log_norm_std
    wanted = ((log_norm(write) - oracle.reconstructor.log_norm_mean) / oracle.reconstructor.log_norm_std).clamp(-4, 4)
    torch.testing.assert_close(trained - errors, SIZE_WEIGHT * (told - wanted).square(), atol=1e-3, rtol=1e-3)
    assert trained.requires_grad


def test_vectors_of_another_size_are_refused(oracle):
    with pytest.raises(InputError, match="a state and a write of"):
        WritePolicy(oracle.verbalizer).generate(torch.ones(2, oracle.d_model))
