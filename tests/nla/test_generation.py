"""The fast path gives the tokens of Hugging Face ``generate`` and the log-probabilities of a separate scoring pass."""

import pytest
import torch

from tests import zoo
from tests.nla import checkpoints
from tl_nla.errors import InputError
from tl_nla.model.families import decoder_layers
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.nla.generation import SamplingConfig, _fewest_moves, choose_tokens

CAP = 20
ENDS = list(range(10, 264, 9))  # many end tokens, so that rows leave the batch at different steps


def make(family, kind="sqrt_d", slots=1):
    tokenizer = checkpoints.byte_tokenizer(begin=True)
    model = checkpoints.source_model(family)
    model.generation_config.eos_token_id = ENDS
    config = InjectionConfig(kind, 5.0 if kind in ("constant", "affine") else None, slots)
    return NLA.create(
        model, tokenizer, 1, config, "<concept>{injection_char}</concept>", "<text>{explanation}</text> S"
    )


@pytest.fixture(scope="module", params=zoo.FAMILIES)
def each(request):
    return make(request.param).verbalizer


@pytest.fixture(scope="module")
def qwen():
    return make("qwen2").verbalizer


@pytest.fixture(scope="module")
def acts():
    return torch.randn(12, zoo.D_MODEL, generator=torch.Generator().manual_seed(3))


def hf_greedy(verbalizer, act):
    embeddings = verbalizer.prompt_embeddings(act[None])
    out = verbalizer.model.generate(
        inputs_embeds=embeddings, attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long), do_sample=False,
        max_new_tokens=CAP, eos_token_id=list(verbalizer.stop_ids), pad_token_id=0,
    )  # fmt: skip
    return out[0].tolist()


def scored(verbalizer, acts, found, temperature=1.0):
    with torch.no_grad():
        logits = verbalizer(acts, found.ids, found.mask)
    logprobs = torch.log_softmax(logits.float() / temperature, -1)
    return logprobs.gather(-1, found.ids[..., None])[..., 0] * found.mask


def test_greedy_tokens_and_logprobs_of_every_family(each, acts):
    found = each.generate(acts, max_new_tokens=CAP)
    for row, act in enumerate(acts):
        assert found.ids[row][found.mask[row]].tolist() == hf_greedy(each, act)
    torch.testing.assert_close(found.logprobs, scored(each, acts, found), atol=1e-4, rtol=1e-4)


def test_sampled_logprobs_of_every_family_while_rows_leave_the_batch(each, acts):
    found = each.generate(acts, max_new_tokens=CAP, temperature=1.5, generator=torch.Generator().manual_seed(0))
    lengths = found.mask.sum(1)
    assert len(set(lengths.tolist())) > 3, "rows must leave at different steps for this test to mean anything"
    torch.testing.assert_close(found.logprobs, scored(each, acts, found, 1.5), atol=1e-4, rtol=1e-4)


def test_finished_is_ended_within_the_cap(qwen, acts):
    found = qwen.generate(acts, max_new_tokens=CAP).responses
    last = found.ids.gather(1, found.mask.sum(1, keepdim=True) - 1)[:, 0]
    assert torch.equal(found.finished, torch.isin(last, torch.tensor(qwen.stop_ids)))
    assert (found.ids[~found.mask] == qwen.pad_id).all()
    assert not found.logprobs[~found.mask].any()
    assert found.finished.any()
    short = qwen.generate(acts, max_new_tokens=1).responses
    assert short.ids.shape == (len(acts), 1)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_chunks_change_nothing(qwen, acts, batch_size):
    whole, parts = (
        qwen.generate(acts, max_new_tokens=CAP),
        qwen.generate(acts, max_new_tokens=CAP, batch_size=batch_size),
    )
    assert torch.equal(whole.ids, parts.ids)
    assert torch.equal(whole.mask, parts.mask)
    torch.testing.assert_close(whole.logprobs, parts.logprobs, atol=1e-5, rtol=1e-5)
    assert whole.texts == parts.texts


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampling_repeats_and_scores_exactly(qwen, acts, temperature):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return qwen.generate(acts, max_new_tokens=CAP, temperature=temperature, generator=generator)

    found = draw(0)
    assert torch.equal(found.ids, draw(0).ids)
    assert found.texts != draw(1).texts
    torch.testing.assert_close(found.logprobs, scored(qwen, acts, found, temperature), atol=1e-4, rtol=1e-4)


def test_sampling_leaves_the_global_generator_alone(qwen, acts):
    before = torch.get_rng_state()
    qwen.generate(acts, max_new_tokens=3, temperature=1.0, generator=torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_several_samples_share_one_prompt(qwen, acts):
    repeated = acts.repeat_interleave(4, 0)
    together = qwen.generate(acts, max_new_tokens=CAP, samples=4)
    apart = qwen.generate(repeated, max_new_tokens=CAP)
    assert torch.equal(together.ids, apart.ids)
    drawn = qwen.generate(
        acts, max_new_tokens=CAP, samples=4, temperature=1.0, generator=torch.Generator(), batch_size=20
    )
    assert len(drawn.texts) == 4 * len(acts)
    assert len(set(drawn.texts[:4])) > 1
    torch.testing.assert_close(drawn.logprobs, scored(qwen, repeated, drawn), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "slots"), [("constant", 1), ("affine", 2), ("raw", 1), ("additive", 1), ("additive", 3)]
)
def test_every_injection_generates_what_it_scores(kind, slots, acts):
    verbalizer = make("llama", kind, slots).verbalizer
    found = verbalizer.generate(acts, max_new_tokens=CAP)
    torch.testing.assert_close(found.logprobs, scored(verbalizer, acts, found), atol=1e-4, rtol=1e-4)
    other = verbalizer.generate(acts.flip(0), max_new_tokens=CAP)
    assert found.texts == other.texts[::-1]
    assert len(set(found.texts)) > 1


def test_additive_injection_against_a_loop_of_generate(acts):
    """Karvonen: at the output of the second block, at the marker only, in the pass over the prompt only."""
    verbalizer = make("llama", "additive").verbalizer
    place = verbalizer.prompt.places[0]
    found = verbalizer.generate(acts, max_new_tokens=CAP)
    for row, act in enumerate(acts):

        def hook(_module, _args, output, act=act):
            stream = (output[0] if isinstance(output, tuple) else output).clone()
            if stream.shape[1] > 1:
                stream[:, place] += stream[:, place].norm() * act / act.norm()
            return (stream, *output[1:]) if isinstance(output, tuple) else stream

        handle = decoder_layers(verbalizer.model)[1].register_forward_hook(hook)
        expected = hf_greedy(verbalizer, act)
        handle.remove()
        assert found.ids[row][found.mask[row]].tolist() == expected


def test_the_prompt_before_the_marker_is_computed_once(qwen, acts, monkeypatch):
    passes = []
    forward = qwen.model.forward

    def counted(*args, **kwargs):
        passes.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(qwen.model, "forward", counted)
    found = qwen.generate(acts, max_new_tokens=CAP)
    first, total = qwen.prompt.places[0], len(qwen.prompt.ids)
    assert passes[:2] == [(1, first), (len(acts), total - first)]
    alive = [(int(found.mask[:, step].sum()), 1) for step in range(1, found.mask.shape[1])]
    assert passes[2:] == alive  # finished rows have left the batch


def test_temperature_is_in_the_logprobs():
    logits = torch.tensor([[0.0, 1.0, 3.0]])
    chosen, logprob = choose_tokens(logits, 0.0, None)
    assert chosen.item() == 2
    torch.testing.assert_close(logprob[0], torch.log_softmax(logits[0], -1)[2])
    chosen, logprob = choose_tokens(logits, 0.5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(logprob[0], torch.log_softmax(logits[0] * 2, -1)[chosen[0]])


def test_samples_follow_the_distribution():
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    chosen, _ = choose_tokens(logits, 1.0, torch.Generator().manual_seed(0))
    shares = torch.bincount(chosen, minlength=3) / len(chosen)
    torch.testing.assert_close(shares, torch.softmax(logits[0], -1), atol=0.015, rtol=0)


def test_quantiles_follow_the_distribution():
    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0]).expand(20_001, 4)
    chosen, logprobs = choose_tokens(logits, 0.5, torch.linspace(0, 1 - 1e-7, 20_001))
    expected = torch.softmax(logits[0] / 0.5, -1)
    torch.testing.assert_close(torch.bincount(chosen, minlength=4) / len(chosen), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(logprobs, expected.log()[chosen])
    assert chosen.diff().min() >= 0


@pytest.mark.parametrize("settings", [{"max_new_tokens": 0}, {"max_new_tokens": 1, "temperature": -1.0}])
def test_refused_settings(settings):
    with pytest.raises(InputError, match=r"max_new_tokens is 0|temperature is -1"):
        SamplingConfig(**settings)


def test_few_rows_move_when_some_have_ended():
    ended = torch.tensor([False, True, False, True, False, False])
    assert _fewest_moves(ended).tolist() == [0, 4, 2, 5]
    assert _fewest_moves(~ended).tolist() == [3, 1]
    assert _fewest_moves(torch.tensor([False, False, True])).tolist() == [0, 1]
