import pytest
import torch
from torch.nn.functional import cross_entropy

from tests import zoo
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError
from tl_nla.oracle import QUESTIONS
from tl_nla.oracle.slots import Slots, log_norm


@pytest.fixture(scope="module")
def reader():
    return make_oracle().verbalizer


def slow_logits(reader, before, write, question, ids):
    """One row, one token at a time, without cache."""
    prompt = reader.prompts[question]
    embed = reader.model.get_input_embeddings()
    rows = embed(torch.tensor(prompt.ids)).detach().clone()
    rows[prompt.places] = reader.slots(before[None], write[None])[0]
    out = []
    for place in range(len(ids)):
        sequence = torch.cat([rows, embed(torch.tensor(ids[:place], dtype=torch.long))])
        out.append(reader.model(inputs_embeds=sequence[None]).logits[0, -1])
    return torch.stack(out)


@torch.no_grad()
def test_forward_is_that_of_single_rows(reader):
    before, write = vectors(3)
    ids, _ = reader.encode_responses(["It promotes red", "red", "flips to blue; huge"])
    for question in ("explain", "skip"):
        fast = reader(before, write, ids, question)
        for row in range(3):
            slow = slow_logits(reader, before[row], write[row], question, ids[row].tolist())
            torch.testing.assert_close(fast[row], slow, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_greedy_answers_are_those_of_the_slow_loop(reader):
    before, write = vectors(4)
    texts = reader.generate(before, write, "sources", max_new_tokens=6, batch_size=3)
    for row, text in enumerate(texts):
        ids = []
        while len(ids) < 6 and reader.end_id not in ids:
            ids.append(int(slow_logits(reader, before[row], write[row], "sources", [*ids, 0])[-1].argmax()))
        kept = ids[:-1] if ids[-1] == reader.end_id else ids
        assert text == reader.tokenizer.decode(kept).strip()


@torch.no_grad()
def test_loss_is_the_mean_over_all_tokens_of_mixed_questions(reader):
    before, write = vectors(4)
    questions, texts = ["explain", "skip", "explain", "promotes"], ["It promotes red", "keeps red", "It", "red, blue"]
    total, count = 0.0, 0
    for row in range(4):
        ids, _ = reader.encode_responses([texts[row]])
        logits = slow_logits(reader, before[row], write[row], questions[row], ids[0].tolist())
        total += float(cross_entropy(logits, ids[0], reduction="sum"))
        count += ids.shape[1]
    assert float(reader.loss(before, write, questions, texts)) == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "gemma3", "neox", "olmo2"])
def test_one_pass_for_all_questions_has_the_loss_and_gradient_of_single_rows(family):
    reader = make_oracle(family).verbalizer
    before, write = vectors(6)
    long = "It promotes " + "red " * 20
    questions = ["skip", "explain", "sources", "explain", "promotes", "skip"]
    texts = ["keeps", long, "a b", "It", "b", "x"]
    ids, mask = reader.encode_responses(texts)
    rows = []
    for row in range(6):
        own = ids[row : row + 1, : int(mask[row].sum())]
        logits = reader(before[row : row + 1], write[row : row + 1], own, questions[row])
        rows.append(cross_entropy(logits[0], own[0], reduction="sum"))
    slow = sum(rows) / mask.sum()
    parameters = [reader.slots.weight, reader.slots.magnitude, reader.model.get_input_embeddings().weight]
    wanted = torch.autograd.grad(slow, parameters)
    for reader.by_length in (False, True):
        fast = reader.loss(before, write, questions, texts)
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)
        for one, two in zip(wanted, torch.autograd.grad(fast, parameters), strict=True):
            torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_both_slots_and_the_magnitude_reach_the_answer(reader):
    before, write = vectors(2)
    ids, _ = reader.encode_responses(["red", "blue"])
    base = reader(before, write, ids)
    for pair in ((before.flip(0), write), (before, write.flip(0)), (before, 3 * write), (3 * before, write)):
        assert (reader(*pair, ids) - base).abs().max() > 1e-3
    assert (reader(before, write, ids, "skip") - base).abs().max() > 1e-3


def test_slots_start_as_the_identity_at_the_norm_of_a_word():
    slots = Slots(8, 8, 2.5)
    before, write = vectors(5, 8)
    out = slots(before, write)
    torch.testing.assert_close(out.norm(dim=-1), torch.full((5, 2), 2.5))
    torch.testing.assert_close(out[:, 1] / 2.5, write / write.norm(dim=-1, keepdim=True))
    slots.fit(before, write)
    logs = (log_norm(write) - slots.log_norm_mean[1]) / slots.log_norm_std[1]
    assert logs.mean().item() == pytest.approx(0, abs=1e-5)
    assert logs.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert torch.isfinite(slots(before * 0, write * 0)).all()
    wide = Slots(8, 12, 1.0)(before, write)
    assert wide.shape == (5, 2, 12)


def test_answers_repeat_with_the_same_generator_and_leave_the_mode(reader):
    before, write = vectors(3)
    settings = {"max_new_tokens": 5, "temperature": 1.0}
    reader.train()
    one, two = (
        reader.generate(before, write, **settings, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert one == two
    assert reader.training
    reader.eval()


def test_every_question_has_its_own_prompt(reader):
    prompts = [tuple(reader.prompts[question].ids) for question in ("explain", *QUESTIONS)]
    assert len(set(prompts)) == len(prompts)
    assert len({tuple(prompt.places) for prompt in reader.prompts.values()}) == 1


def test_refusals(reader):
    before, write = vectors(2)
    with pytest.raises(InputError, match="unknown question"):
        reader.generate(before, write, "what")
    with pytest.raises(InputError, match="2 writes and 1 states"):
        reader.generate(before[:1].expand(1, -1), write)
    with pytest.raises(InputError, match="NaN"):
        reader.generate(before, write * torch.nan)
    with pytest.raises(InputError, match="context of 128"):
        reader.generate(before, write, max_new_tokens=200)
    with pytest.raises(InputError, match="injection character"):
        reader.encode_responses([reader.char])
    assert reader.d_act == zoo.D_MODEL
