"""Beam search against a slow loop without a cache, against all responses of two tokens, and against transformers."""

import json

import pytest
import torch

from tests import zoo
from tests.nla.test_generation import make
from tl_nla.cli.main import main
from tl_nla.errors import InputError
from tl_nla.nla import BeamSearch, BestOf, SureWords
from tl_nla.nla.answers import AnswerRule

CAP = 6


def pair(family, ends):
    nla = make(family)
    nla.verbalizer.answers = AnswerRule("all")  # random weights never close a tag
    nla.verbalizer.model.generation_config.eos_token_id = ends
    return nla


@pytest.fixture(scope="module", params=zoo.FAMILIES)
def nla(request):
    return pair(request.param, list(range(10, 264, 25)))


@pytest.fixture(scope="module")
def acts():
    return torch.randn(5, zoo.D_MODEL, generator=torch.Generator().manual_seed(3))


def next_logprobs(verbalizer, act, ids):
    """Of every token behind some ids, in a pass of its own."""
    with torch.no_grad():
        logits = verbalizer(act[None], torch.tensor([[*ids, 0]]))[0, -1]
    return torch.log_softmax(logits.float(), -1).tolist()


def slow(verbalizer, act, beams, cap=CAP):
    """Ids and score of one row, one beginning after the other."""
    alive, done = [((), 0.0)], []
    for _ in range(cap):
        longer = []
        for ids, score in alive:
            for token, logprob in enumerate(next_logprobs(verbalizer, act, ids)):
                longer.append(((*ids, token), score + logprob))
        longer.sort(key=lambda one: -one[1])
        ends = set(verbalizer.stop_ids)
        done += [one for one in longer[: beams * (len(ends) + 1)] if one[0][-1] in ends]
        alive = [one for one in longer if one[0][-1] not in ends][:beams]
        if done and max(score for _, score in done) >= alive[0][1]:
            break
    return max(done, key=lambda one: one[1]) if done else alive[0]


@pytest.mark.parametrize("beams", [2, 5])
def test_it_finds_what_a_slow_loop_finds(nla, acts, beams):
    found = nla.search(acts, beams=beams, max_new_tokens=CAP)
    for row, act in enumerate(acts):
        ids, score = slow(nla.verbalizer, act, beams)
        assert found.logprobs[row].sum().item() == pytest.approx(score, abs=1e-4)
        assert found.ids[row][found.mask[row]].tolist() == list(ids)
        assert bool(found.responses.finished[row]) == (ids[-1] in nla.verbalizer.stop_ids)
        assert not found.logprobs[row][~found.mask[row]].any()


@pytest.mark.parametrize("ends", [[], [7, 40, 100, 200]])
def test_with_enough_beams_it_is_the_best_of_all(acts, ends):
    nla = pair("llama", ends)
    verbalizer, vocab = nla.verbalizer, nla.verbalizer.model.config.vocab_size
    found = nla.search(acts[:2], beams=vocab, max_new_tokens=2)
    for row, act in enumerate(acts[:2]):
        with torch.no_grad():
            ids = torch.tensor([[first, 0] for first in range(vocab)])
            both = torch.log_softmax(verbalizer(act.expand(vocab, -1), ids).float(), -1)
        scores = both[0, 0][:, None] + both[:, 1]
        stop = torch.tensor(verbalizer.stop_ids)
        scores[stop] = -torch.inf
        ended = torch.cat([both[0, 0][stop], scores[:, stop].flatten()])
        assert found.logprobs[row].sum().item() == pytest.approx(ended.max().item(), abs=1e-4)


def test_one_beam_is_greedy(nla, acts):
    assert torch.equal(nla.search(acts, beams=1).ids, nla.generate(acts).ids)


def test_it_is_at_least_as_likely_as_that_of_transformers(nla, acts):
    verbalizer = nla.verbalizer
    found = nla.search(acts, beams=4, max_new_tokens=CAP)
    embeddings = verbalizer.prompt_embeddings(acts)
    out = verbalizer.model.generate(
        inputs_embeds=embeddings, attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long), do_sample=False,
        max_new_tokens=CAP, eos_token_id=list(verbalizer.stop_ids), pad_token_id=0, num_beams=4, length_penalty=0.0,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    finished = found.responses.finished
    assert finished.any()
    assert (found.logprobs.sum(1) >= out.sequences_scores - 1e-4)[finished].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logprobs_are_those_of_a_scoring_pass(acts, dtype):
    verbalizer = pair("qwen2", [7]).verbalizer.to(dtype)
    found = verbalizer.search(acts, 3, CAP)
    with torch.no_grad():
        scored = torch.log_softmax(verbalizer(acts, found.ids, found.mask).float(), -1)
    scored = scored.gather(-1, found.ids[..., None])[..., 0] * found.mask
    torch.testing.assert_close(found.logprobs, scored, atol=1e-4 if dtype == torch.float32 else 0.15, rtol=0)


def test_words_do_not_depend_on_the_batch(nla, acts):
    whole = nla.search(acts, beams=3, max_new_tokens=CAP)
    assert nla.search(acts, beams=3, max_new_tokens=CAP, batch_size=6).texts == whole.texts
    assert nla.search(acts[3:4], beams=3, max_new_tokens=CAP).texts == whole.texts[3:4]


def test_the_pair_that_searches(acts):
    nla = pair("llama", [7])
    wrapped = BeamSearch(nla, beams=3)
    found = wrapped.generate(acts, max_new_tokens=CAP)
    assert (
        found.texts
        == nla.search(acts, beams=3, max_new_tokens=CAP).texts
        == wrapped.verbalize(acts, max_new_tokens=CAP)
    )
    assert wrapped.layer == nla.layer
    assert "…" in SureWords(wrapped, 1.0).verbalize(acts, max_new_tokens=CAP)[0]
    with pytest.raises(InputError, match="samples, temperature cannot be given to a beam search"):
        BestOf(wrapped, 2).verbalize(acts)
    for other in (BestOf(nla, 2), wrapped, _NoSearch()):
        with pytest.raises(InputError, match="has no beam search; give an NLA"):
            BeamSearch(other)
    with pytest.raises(InputError, match="beams"):
        BeamSearch(nla, 0)


class _NoSearch:
    def generate(self, acts):
        raise NotImplementedError

    def reconstruct(self, texts):
        raise NotImplementedError


def test_on_the_command_line(capsys):
    told = []
    for settings in ([], ["--beams", "4"]):
        assert main(["verbalize", "Tom had a red kite.", "--last", "4", *settings]) == 0
        told.append([json.loads(line)["explanation"] for line in capsys.readouterr().out.splitlines()])
    assert len(told[1]) == 4
    assert main(["verbalize", "Tom had a red kite.", "--beams", "2", "--best-of", "2"]) == 2
    assert "give one of them" in capsys.readouterr().err
