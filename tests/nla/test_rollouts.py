"""Sampling of groups, prefix budgets, rewards, advantages, divergence: each against a slow reference."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import zoo
from tests.nla import checkpoints
from tests.nla.test_generation import make
from tl_nla.errors import InputError
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.generation import Responses
from tl_nla.nla.policy import (
    bounded_exp,
    group_advantages,
    k3_divergence,
    length_penalties,
    masked_sum,
    mean_squared_errors,
    policy_objective,
    reconstruction_rewards,
)
from tl_nla.nla.rollouts import (
    BuiltInBackend,
    RolloutBackend,
    RolloutConfig,
    cut_explanations,
    draw_budgets,
    token_logprobs,
)
from tl_nla.nla.verbalizer import Generation


@pytest.fixture(scope="module")
def verbalizer():
    return make("qwen2").verbalizer


@pytest.fixture(scope="module")
def acts():
    return torch.randn(5, zoo.D_MODEL, generator=torch.Generator().manual_seed(3))


def scored_one_by_one(verbalizer, act, ids, temperature):
    """A separate scoring pass of one response, token by token, with no padding and no batch."""
    logprobs = []
    for place in range(len(ids)):
        prompt = verbalizer.prompt_embeddings(act[None])
        before = verbalizer.model.get_input_embeddings()(torch.tensor([ids[:place]], dtype=torch.long))
        with torch.no_grad():
            logits = verbalizer.model(inputs_embeds=torch.cat([prompt, before], 1)).logits[0, -1]
        logprobs.append(torch.log_softmax(logits / temperature, -1)[ids[place]])
    return torch.stack(logprobs)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_of_sampling_and_scoring_are_those_of_single_rows(verbalizer, acts, temperature):
    config = RolloutConfig(group=3, max_new_tokens=12, temperature=temperature)
    found = BuiltInBackend().sample(verbalizer, acts, config, torch.Generator().manual_seed(0))
    assert len(found.texts) == 15
    rows = acts.repeat_interleave(3, 0)
    scored = token_logprobs(verbalizer, rows, found.ids, found.mask, temperature)
    assert scored.requires_grad
    torch.testing.assert_close(found.logprobs, scored.detach(), atol=1e-4, rtol=0)
    assert len(set(found.mask.sum(1).tolist())) > 2, "rows must end at different steps for this test to mean anything"
    for row in (0, 4, 8, 14):
        ids = found.ids[row][found.mask[row]].tolist()
        expected = scored_one_by_one(verbalizer, rows[row], ids, temperature)
        torch.testing.assert_close(found.logprobs[row][found.mask[row]], expected, atol=1e-4, rtol=0)


def test_the_builtin_backend_fits_the_protocol_and_repeats(verbalizer, acts):
    backend = BuiltInBackend()
    assert isinstance(backend, RolloutBackend)
    config = RolloutConfig(group=2, max_new_tokens=10)
    first, second = (backend.sample(verbalizer, acts, config, torch.Generator().manual_seed(4)).ids for _ in range(2))
    assert torch.equal(first, second)
    other = backend.sample(verbalizer, acts, config, torch.Generator().manual_seed(5)).ids
    assert first.shape != other.shape or not torch.equal(first, other)


@given(rewards=st.lists(st.floats(-4, 0, width=32), min_size=8, max_size=8), group=st.sampled_from([2, 4, 8]))
def test_advantages_are_those_of_a_loop(rewards, group):
    found = group_advantages(torch.tensor(rewards), group)
    for start in range(0, 8, group):
        part = rewards[start : start + group]
        mean = sum(part) / group
        deviation = math.sqrt(sum((r - mean) ** 2 for r in part) / (group - 1))
        for place, reward in enumerate(part):
            expected = (reward - mean) / (deviation + 1e-6)
            assert found[start + place].item() == pytest.approx(expected, rel=1e-2, abs=1e-2)
    centred = group_advantages(torch.tensor(rewards), group, scale=False)
    assert centred.view(-1, group).sum(1).abs().max() < 1e-4


def test_equal_rewards_teach_nothing():
    assert not group_advantages(torch.full((6,), -0.7), 3).any()


@pytest.mark.parametrize(("rows", "group"), [(6, 1), (7, 2), (3, 4)])
def test_incomplete_groups_are_refused(rows, group):
    with pytest.raises(InputError, match="groups"):
        group_advantages(torch.zeros(rows), group)


def test_divergence_is_unbiased_and_never_negative():
    generator = torch.Generator().manual_seed(0)
    policy, reference = (torch.randn(6, generator=generator).log_softmax(-1) for _ in range(2))
    exact = (policy.exp() * (policy - reference)).sum()
    estimate = k3_divergence(policy[None], reference[None])[0]
    assert (estimate >= 0).all()
    # E_policy[k3] = KL + sum(reference) - 1 = KL, as both sum to one.
    torch.testing.assert_close((policy.exp() * estimate).sum(), exact)
    assert not k3_divergence(policy[None], policy[None]).any()
    assert torch.isfinite(k3_divergence(torch.tensor([[-200.0, 0.0]]), torch.tensor([[0.0, -200.0]]))).all()


@pytest.mark.parametrize("gap", [13.0, 20.0, 60.0, 500.0])
def test_divergence_grows_and_pulls_however_wide_the_gap(gap):
    """Far below the reference's range it used to be flat: no gradient just where the policy has to be pulled back."""
    logprobs = torch.tensor([[-0.1, -0.1 - gap]], requires_grad=True)
    found = k3_divergence(logprobs, torch.tensor([[-0.1 - gap, -0.1]]))
    found.sum().backward()
    torch.testing.assert_close(found[0, 0].item(), gap - 1, atol=1e-3, rtol=1e-5)
    assert logprobs.grad[0, 0].item() == pytest.approx(1, abs=1e-5)
    assert found[0, 1].item() == pytest.approx(math.exp(12) * (gap - 11), rel=1e-4)
    assert logprobs.grad[0, 1].item() == pytest.approx(-math.exp(12), rel=1e-4)


def test_the_bounded_exponential_is_the_exponential_and_then_its_tangent():
    values = torch.tensor([-100.0, -1.0, 0.0, 11.9, 12.0, 12.1], requires_grad=True)
    found = bounded_exp(values)
    found.sum().backward()
    torch.testing.assert_close(found[:5], values[:5].exp())
    torch.testing.assert_close(values.grad[:5], values[:5].exp())
    assert found[5].item() == pytest.approx(1.1 * math.exp(12), rel=1e-5)
    assert values.grad[5].item() == pytest.approx(math.exp(12), rel=1e-5)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_a_token_that_became_far_too_likely_is_still_pushed_down(clip):
    logprobs = torch.tensor([[-1.0]], requires_grad=True)
    policy_objective(logprobs, torch.tensor([[-21.0]]), torch.tensor([-1.0]), clip).sum().backward()
    assert logprobs.grad.item() == pytest.approx(math.exp(12), rel=1e-4)


def test_the_unclipped_gradient_is_reinforce():
    logprobs = torch.randn(3, 4, requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.5])
    policy_objective(logprobs, logprobs.detach(), advantages).sum().backward()
    torch.testing.assert_close(logprobs.grad, -advantages[:, None].expand(3, 4))


def test_clipping_stops_what_has_gone_far_enough():
    sampled = torch.zeros(1, 4)
    logprobs = torch.tensor([[0.5, -0.5, 0.05, -0.05]], requires_grad=True)
    for advantage, stopped in ((1.0, [True, False, False, False]), (-1.0, [False, True, False, False])):
        objective = policy_objective(logprobs, sampled, torch.tensor([advantage]), clip=0.2)
        (gradient,) = torch.autograd.grad(objective.sum(), logprobs)
        assert (gradient[0] == 0).tolist() == stopped
    with pytest.raises(InputError, match="clip"):
        policy_objective(logprobs, sampled, torch.ones(1), clip=1.5)


def test_rewards_count_failures_and_nan_as_an_error_of_two():
    preds, truth = torch.randn(4, 8), torch.randn(4, 8)
    errors = mean_squared_errors(preds, truth)
    torch.testing.assert_close(errors, 2 - 2 * torch.cosine_similarity(preds, truth, dim=-1))
    errors[3] = torch.nan
    extracted = torch.tensor([True, False, True, True])
    found = reconstruction_rewards(errors, extracted)
    assert found[1] == found[3] == -2
    assert found[0] == -errors[0]
    log = reconstruction_rewards(errors, extracted, log=True)
    assert log[1].item() == pytest.approx(-math.log(2))
    assert log[0].item() == pytest.approx(-math.log(errors[0].item()))


def test_length_costs_nothing_up_to_the_hinge():
    found = length_penalties(torch.tensor([3, 10, 14]), 0.01, 10)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.04]))


def test_masked_sum_ignores_even_what_is_not_finite():
    values = torch.tensor([[1.0, torch.inf], [3.0, torch.nan]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    total = masked_sum(values, mask)
    total.backward()
    assert total == 4
    assert torch.equal(values.grad, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert masked_sum(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool)) == 0


def written(texts, extracted=None):
    """A generation with given responses of the byte tokenizer."""
    tokenizer = checkpoints.byte_tokenizer()
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
    inner = [text.partition("<explanation>")[2].partition("</explanation>")[0].strip() for text in texts]
    ok = torch.tensor(extracted or [True] * len(texts))
    return tokenizer, Generation(inner, ok, Responses(ids, mask, torch.zeros_like(mask, dtype=torch.float), ok))


def test_explanations_are_cut_to_their_budget():
    whole = "<explanation>abcdef</explanation>"
    tokenizer, found = written([whole, whole, whole, "<explanation>abc"], [True, True, True, False])
    texts, kept = cut_explanations(tokenizer, found, torch.tensor([2, 6, 50, 2]))
    assert texts == ["ab", "abcdef", "abcdef", ""]
    spaced = written(["<explanation>\nabc\n</explanation>"])[1]
    assert cut_explanations(tokenizer, spaced, torch.tensor([1]))[0] == ["a"]
    opened = len(tokenizer.encode("<explanation>", add_special_tokens=False))
    assert kept[0].sum() == opened + 2
    assert torch.equal(kept[1:], found.mask[1:])


def test_explanations_without_tags_are_cut():
    tokenizer = checkpoints.byte_tokenizer()
    ids = torch.tensor([tokenizer.encode("to my bed", add_special_tokens=False)])
    every = torch.ones_like(ids, dtype=torch.bool)
    found = Generation(["to my bed"], every[:, 0], Responses(ids, every, every.float(), every[:, 0]), AnswerRule("all"))
    texts, kept = cut_explanations(tokenizer, found, torch.tensor([5]))
    assert texts == ["to my"]
    assert kept.sum() == 5
    texts, kept = cut_explanations(tokenizer, found, torch.tensor([50]))
    assert texts == ["to my bed"]
    assert kept.all()


def test_an_explanation_whose_letters_stand_in_the_tag_is_cut_at_its_own_place():
    tokenizer, found = written(["<explanation>plan</explanation>"])
    texts, kept = cut_explanations(tokenizer, found, torch.tensor([2]))
    assert texts == ["pl"]
    assert kept.sum() == len("<explanation>") + 2


def test_items_that_were_put_together_are_cut_by_their_rule():
    rule, tokenizer = AnswerRule("bullets"), checkpoints.byte_tokenizer()
    ids = torch.tensor([tokenizer.encode("- bed\n- dog", add_special_tokens=False)])
    every = torch.ones_like(ids, dtype=torch.bool)
    found = Generation(["bed\ndog"], every[:, 0], Responses(ids, every, every.float(), every[:, 0]), rule)
    texts, kept = cut_explanations(tokenizer, found, torch.tensor([9]))
    assert texts == ["bed\nd"]
    assert kept.sum() == 9


def test_budgets_are_shared_by_the_group():
    found = draw_budgets([torch.Generator().manual_seed(seed) for seed in range(50)], 3, 4, 9).view(50, 3)
    assert torch.equal(found, found[:, :1].expand(50, 3))
    assert set(found.flatten().tolist()) == {4, 5, 6, 7, 8, 9}
    small = draw_budgets([torch.Generator().manual_seed(seed) for seed in range(400)], 2, 2, 31, log=True)[::2]
    assert (int(small.min()), int(small.max())) == (2, 31)
    assert 0.4 < (small < 8).float().mean() < 0.6, "8 is the geometric middle"
    with pytest.raises(InputError, match="budgets"):
        draw_budgets([torch.Generator()], 2, 5, 4)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_with_a_generator_a_row_words_do_not_depend_on_the_batch(verbalizer, acts, batch_size):
    config = RolloutConfig(group=2, max_new_tokens=12, batch_size=batch_size)

    def sample(rows):
        chosen = [torch.Generator().manual_seed(row) for row in rows]
        return BuiltInBackend().sample(verbalizer, acts[rows], config, chosen)

    whole, part = sample([0, 1, 2, 3, 4]), sample([4, 1])
    for row, other in ((8, 0), (9, 1), (2, 2), (3, 3)):
        assert torch.equal(whole.ids[row][whole.mask[row]], part.ids[other][part.mask[other]])
    assert not torch.equal(whole.ids[8], whole.ids[9])
    with pytest.raises(InputError, match="1 generators for 5 rows"):
        BuiltInBackend().sample(verbalizer, acts, RolloutConfig(2, 5), [torch.Generator()])


@pytest.mark.parametrize(
    "settings", [{"group": 1}, {"max_new_tokens": 0}, {"temperature": 0.0}, {"batch_size": 4, "group": 8}]
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(InputError):
        RolloutConfig(**settings)
