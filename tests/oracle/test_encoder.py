"""The encoder of sources, and a reader with its slots."""

import pytest
import torch
from torch.nn.functional import logsigmoid

from tests.oracle.test_verbalizer import slow_logits
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError
from tl_nla.oracle import DiffOracle, SourceEncoder
from tl_nla.oracle.texts import list_words


def make_encoder(d_act=32, width=32, words=7, hidden=12, seed=0):
    torch.manual_seed(seed)
    encoder = SourceEncoder([f"w{i}" for i in range(words)], torch.randn(words, width), d_act, hidden)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return encoder


@torch.no_grad()
def test_it_gives_all_words_by_their_probabilities_and_the_best_ones():
    encoder = make_encoder()
    before, write = vectors(4, 32)
    told, logits = encoder.embed(before, write), encoder(before, write)
    for row in range(4):
        slow = sum(1 / (1 + (-logits[row, word]).exp()) * encoder.embeddings[word] for word in range(7))
        torch.testing.assert_close(told[row, 0], slow)
        best = sorted(range(7), key=lambda word: -float(logits[row, word]))[:3]
        assert torch.equal(told[row, 1:], encoder.embeddings[best])


@torch.no_grad()
def test_it_names_the_most_probable_words():
    encoder = make_encoder()
    before, write = vectors(4, 32)
    logits = encoder(before, write)
    for row, named in enumerate(encoder.name(before, write, 2)):
        order = sorted(range(7), key=lambda word: -float(logits[row, word]))
        assert named == [f"w{word}" for word in order[:2]]
    assert len(encoder.name(before, write, 9)[0]) == 7


@torch.no_grad()
def test_magnitudes_do_not_enter_and_nothing_is_read_as_zeros():
    encoder = make_encoder()
    before, write = vectors(4, 32)
    torch.testing.assert_close(encoder(3 * before, 1e-4 * write), encoder(before, write), rtol=1e-3, atol=1e-4)
    assert encoder(before, torch.zeros_like(write)).isfinite().all()
    assert not torch.allclose(encoder(before, -write), encoder(before, write))


@torch.no_grad()
def test_loss_is_that_of_single_words():
    encoder = make_encoder()
    before, write = vectors(3, 32)
    read = [{1, 4}, set(), {6}]
    words = torch.tensor([[4, 1, 1], [-1, -1, -1], [6, -1, -1]])
    logits = encoder(before, write)
    slow = 0.0
    for row in range(3):
        for word in range(7):
            slow -= float(logsigmoid(logits[row, word] if word in read[row] else -logits[row, word]))
    assert float(encoder.loss(before, write, words)) == pytest.approx(slow / 3, rel=1e-5)


def test_saved_and_loaded(tmp_path):
    encoder = make_encoder()
    encoder.save(tmp_path / "encoder.safetensors")
    found = SourceEncoder.load(tmp_path / "encoder.safetensors")
    before, write = vectors(4, 32)
    assert torch.equal(found(before, write), encoder(before, write))
    assert found.words == encoder.words
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_half_precision_takes_half_the_room_and_is_loaded_as_float32(tmp_path):
    encoder = make_encoder(hidden=64)
    encoder.save(tmp_path / "whole.safetensors")
    encoder.save(tmp_path / "half.safetensors", torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    found = SourceEncoder.load(tmp_path / "half.safetensors")
    before, write = vectors(4, 32)
    assert found.embeddings.dtype == torch.float32
    torch.testing.assert_close(found(before, write), encoder(before, write), rtol=0.01, atol=0.01)


def test_files_of_something_else_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"first.weight": torch.zeros(3, 4)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no encoder of sources"):
        SourceEncoder.load(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="hidden is 0"):
        SourceEncoder(["a", "b"], torch.ones(2, 4), 4, 0)
    with pytest.raises(InputError, match="2 words and 3 embeddings"):
        SourceEncoder(["a", "b"], torch.ones(3, 4), 4, 5)


@torch.no_grad()
def test_a_reader_reads_it_in_slots_of_their_own():
    reader = make_oracle().verbalizer
    before, write = vectors(3, reader.d_act)
    two = reader.prompt_embeddings(before, write, "sources")
    encoder = make_encoder(reader.d_act, reader.slots.weight.shape[2])
    reader.use_encoder(encoder)
    more = reader.prompt_embeddings(before, write, "sources")
    places = reader.prompts["sources"].places[2:]
    assert more.shape[1] == two.shape[1] + 4
    torch.testing.assert_close(more[:, places], encoder.embed(before, write))
    others = [column for column in range(more.shape[1]) if column not in places]
    assert torch.equal(more[:, others], two)
    ids, _ = reader.encode_responses(["red and blue", "none", "red"])
    fast = reader(before, write, ids, "sources")
    for row in range(3):
        slow = slow_logits(reader, before[row], write[row], "sources", ids[row].tolist())
        torch.testing.assert_close(fast[row], slow, rtol=1e-3, atol=1e-4)
    reader.use_encoder(None)
    assert torch.equal(reader.prompt_embeddings(before, write, "sources"), two)


def test_a_reader_is_taught_what_stands_in_its_slots():
    reader = make_oracle().verbalizer
    before, write = vectors(5, reader.d_act)
    questions = ["sources", "promotes", "sources", "explain", "sources"]
    texts = ["red blue; was", "red", "none; and to", "promotes red, attended blue", "painted; none"]
    assert reader.taught(before, write, questions, texts) == texts
    encoder = make_encoder(reader.d_act, reader.slots.weight.shape[2])
    reader.use_encoder(encoder)
    taught = reader.taught(before, write, questions, texts)
    assert taught[1:4] == texts[1:4]
    for row, near in ((0, "was"), (4, "none")):
        (named,) = encoder.name(before[row : row + 1], write[row : row + 1])
        assert taught[row] == f"{list_words(named)}; {near}"
    assert texts[0] == "red blue; was"


def test_it_stays_fixed_while_the_reader_is_trained():
    reader = make_oracle().verbalizer
    encoder = make_encoder(reader.d_act, reader.slots.weight.shape[2])
    reader.use_encoder(encoder)
    before, write = vectors(2, reader.d_act)
    reader.loss(before, write, ["sources", "explain"], ["red", "It promotes red"]).backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert reader.slots.weight.grad is not None


@torch.no_grad()
def test_an_oracle_keeps_it(tmp_path):
    oracle = make_oracle()
    oracle.verbalizer.use_encoder(make_encoder(oracle.d_model, oracle.verbalizer.slots.weight.shape[2]))
    oracle.save_pretrained(tmp_path / "oracle")
    oracle.save_pretrained(tmp_path / "half", torch.float16)
    sizes = [(tmp_path / name / "encoder.safetensors").stat().st_size for name in ("oracle", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    found = DiffOracle.from_pretrained(tmp_path / "oracle")
    before, write = vectors(5, oracle.d_model)
    asked = oracle.verbalizer.prompt_embeddings(before, write, "sources")
    torch.testing.assert_close(found.verbalizer.prompt_embeddings(before, write, "sources"), asked)
    assert [a.text for a in found.ask("sources", write, before)] == [
        a.text for a in oracle.ask("sources", write, before)
    ]


def test_an_encoder_of_another_size_is_refused():
    reader = make_oracle().verbalizer
    with pytest.raises(InputError, match="the encoder reads vectors of size 5"):
        reader.use_encoder(make_encoder(5, 32))
