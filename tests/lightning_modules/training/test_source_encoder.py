"""The source slots of a reader: their encoder is fitted on cheap labels, then practised."""

import dataclasses

import pytest
import torch

from lightning_modules.data.oracle_data import capture
from lightning_modules.data.write_texts import WriteTexts
from lightning_modules.training import source_encoder
from lightning_modules.training.source_encoder import (
    EncoderConfig,
    add_source_slots,
    encoder_examples,
    encoder_spec,
    new_encoder,
    practice_spec,
    rehearsal_spec,
)
from lightning_modules.training.stage import run_stage
from lightning_modules.training.stages import Stages
from tests.lightning_modules.quick import quick
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError
from tl_nla.model.loading import load_causal_lm
from tl_nla.model.sites import Site
from tl_nla.model.targets import load_target, model_folder
from tl_nla.oracle import DiffOracle
from tl_nla.oracle.capture import CaptureConfig, capture_writes
from tl_nla.oracle.questions import make_answer
from tl_nla.oracle.source_examples import SourceExamples, source_examples
from tl_nla.storyworld.documents import world_documents

FEW = quick({"documents": 6, "held_documents": 2})


@pytest.fixture(scope="module")
def target():
    return load_target("tiny")


@pytest.fixture(scope="module")
def data(target):
    return capture(target, world_documents(6, 0), world_documents(2, 1), FEW.sizes, 0)


def test_it_learns_which_words_were_read():
    reader = make_oracle().verbalizer
    words = ["red", "blue", "was", "and", "to"]
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(5, reader.d_act, generator=generator)
    read = torch.randint(5, (20_000, 2), generator=generator)
    write = parts[read].sum(1) + 0.1 * torch.randn(20_000, reader.d_act, generator=generator)
    before = torch.randn(20_000, reader.d_act, generator=generator)
    examples = SourceExamples(before[:16_000].half(), write[:16_000].half(), read[:16_000])
    config = EncoderConfig(hidden=64, batch_size=64)
    encoder = new_encoder(reader, words, config)
    curve = run_stage(encoder, encoder_spec(encoder, examples, config))
    assert curve.steps == [25 * tenth for tenth in range(1, 11)]
    assert curve.scores[-1][0] < 0.5 * curve.scores[0][0]
    best = encoder(before[16_000:], write[16_000:]).topk(2, 1).indices
    right = torch.tensor(
        [set(found) >= set(true) for found, true in zip(best.tolist(), read[16_000:].tolist(), strict=True)]
    )
    assert right.float().mean() > 0.9


def test_words_are_numbered_by_their_place(target, data):
    sites = [site for site in data.train.sites if Site.parse(site).kind in ("head", "attn")]
    found, words = encoder_examples(
        target.model, target.tokenizer, data.train_documents, sites, data.vocabulary, CaptureConfig(2, seed=0)
    )
    assert len({word.casefold() for word in words}) == len(words)
    assert found.words.unique().tolist() == list(range(-1, len(words)))
    reader = make_oracle().verbalizer
    encoder = new_encoder(reader, words, EncoderConfig(hidden=4))
    vectors = reader.model.get_input_embeddings().weight.detach()
    spelled = {word: reader.tokenizer.tokenize(f" {word}") for word in words}
    assert spelled["."] == ["Ġ", "."]
    for place, word in enumerate(words):
        token = reader.tokenizer.convert_tokens_to_ids(spelled[word][word == "."])
        assert torch.equal(encoder.embeddings[place], vectors[token])


def test_the_reader_gets_slots_and_a_run_that_goes_on_labels_nothing_again(target, data, tmp_path, monkeypatch):
    def fresh():
        return DiffOracle.create(load_causal_lm(model_folder("tiny"), torch.float32), target.tokenizer).verbalizer

    before, write = data.held.before[:3], data.held.write[:3]
    found = []
    for labels in (source_encoder.encoder_examples, None):
        monkeypatch.setattr(source_encoder, "encoder_examples", labels)
        reader = fresh()
        kept = Stages(tmp_path, "same")
        add_source_slots(reader, target, data, world_documents(12, 0, 6), kept, FEW, 0)
        assert reader.slots.count == 6
        found.append(reader.prompt_embeddings(before, write, "sources").detach())
    assert {path.name for path in tmp_path.iterdir()} == {
        "encoder_words.json",
        "encoder.safetensors",
        "practice.safetensors",
        "rehearsal.safetensors",
    }
    assert torch.equal(*found)


def test_words_are_in_lower_case_where_the_tokenizer_has_them_so(target, data):
    sites = [site for site in data.train.sites if Site.parse(site).kind in ("head", "attn")]
    _, words = encoder_examples(
        target.model, target.tokenizer, data.train_documents, sites, data.vocabulary, CaptureConfig(8, seed=0)
    )
    assert {"the", "a"} < set(words)
    names = [word for word in words if word != word.lower()]
    assert names
    assert not any(name.lower() in data.vocabulary.texts for name in names)


@pytest.mark.slow
def test_in_practice_the_reader_learns_to_say_its_slots(target, data):
    """Words of an encoder that is right about nothing: only who reads the slots can say them."""
    oracle = DiffOracle.create(load_causal_lm(model_folder("tiny"), torch.float32), target.tokenizer)
    sites = [site for site in data.train.sites if Site.parse(site).kind in ("head", "attn")]
    encoder = new_encoder(
        oracle.verbalizer, ["red", "blue", "green", "cat", "dog", "was", "to"], EncoderConfig(hidden=32)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    oracle.verbalizer.use_encoder(encoder)
    more, settings = world_documents(6, 0, 6), CaptureConfig(4, skips=False)
    asked = capture_writes(target.model, target.tokenizer, more, sites, settings, data.vocabulary)
    rows = [row for row, answers in enumerate(data.held.answers) if "sources" in answers]
    before, write = data.held.before[rows], data.held.write[rows]
    named = encoder.name(before, write)

    def share_said() -> float:
        answers = oracle.ask("sources", write, before, max_new_tokens=20, at_least=3)
        return sum(len(set(one) & set(other.tokens)) for one, other in zip(named, answers, strict=True)) / 3 / len(rows)

    first = share_said()
    config = quick(sources={"practice_steps": 60, "practice_batch": 32})
    run_stage(oracle.verbalizer, practice_spec(oracle.verbalizer, data, asked, config, 0))
    last = share_said()
    assert first < 0.3
    assert last > 0.6, last


def asked_beside(reader, prepare, size, monkeypatch):
    """How a stage is set, and what it asks beside its usual items, step by step."""
    seen = []

    def loss(before, write, questions, texts):
        seen.append((before, write, questions, texts))
        return torch.zeros(())

    spec = prepare(quick(sources={"practice_steps": 40, "rehearsal_steps": 40, "practice_batch": size}))
    monkeypatch.setattr(reader, "loss", loss)
    torch.manual_seed(0)
    for _ in range(spec.config.steps):
        spec.loss(torch.tensor([0]))
    return spec.config, seen[1::2]


def test_two_thirds_of_the_questions_of_a_practice_are_about_writes_that_read_something(data, monkeypatch):
    reader = make_oracle(d_act=data.train.write.shape[1]).verbalizer
    none, some = make_answer("sources", ()), make_answer("sources", ("red",))
    answers = [{"sources": some if row % 4 == 0 else none} for row in range(len(data.train))]
    writes = dataclasses.replace(data.train, answers=answers)
    fit, seen = asked_beside(reader, lambda config: practice_spec(reader, data, writes, config, 0), 32, monkeypatch)
    assert fit.learning_rate == pytest.approx(0.4 * FEW.learning_rate)
    assert len(seen) == 40
    assert all(questions == ["sources"] * 32 for _, _, questions, _ in seen)
    told = sum(not text.startswith("none") for _, _, _, texts in seen for text in texts) / (40 * 32)
    assert 0.62 < told < 0.71
    right = {(tuple(writes.write[row].tolist()), writes.text(row, "sources"))
             for row, answers in enumerate(writes.answers) if "sources" in answers}  # fmt: skip
    assert all(
        (tuple(w.tolist()), text) in right for _, write, _, texts in seen for w, text in zip(write, texts, strict=True)
    )


def test_rehearsal_asks_about_skips_and_sources_of_training_writes(data, monkeypatch):
    reader = make_oracle(d_act=data.train.write.shape[1]).verbalizer
    fit, seen = asked_beside(reader, lambda config: rehearsal_spec(reader, data, config, 0), 4, monkeypatch)
    assert fit.down == 1.0
    assert all(questions == ["sources"] * 2 + ["skip"] * 4 for _, _, questions, _ in seen)
    right = {(tuple(data.train.write[row].tolist()), data.train.text(row, "skip"))
             for row, answers in enumerate(data.train.answers) if "skip" in answers}  # fmt: skip
    for _, write, _, texts in seen:
        assert all((tuple(w.tolist()), text) in right for w, text in zip(write[2:], texts[2:], strict=True))


def test_a_rehearsal_without_skips_asks_about_sources_alone(data, monkeypatch):
    reader = make_oracle(d_act=data.train.write.shape[1]).verbalizer
    bare = [{name: answer for name, answer in answers.items() if name != "skip"} for answers in data.train.answers]
    without = dataclasses.replace(data, train=dataclasses.replace(data.train, answers=bare))
    _, seen = asked_beside(reader, lambda config: rehearsal_spec(reader, without, config, 0), 4, monkeypatch)
    assert all(questions == ["sources"] * 2 for _, _, questions, _ in seen)


def test_only_a_share_of_the_writes_that_read_nothing_is_kept(target, data):
    sites = [site for site in data.train.sites if Site.parse(site).kind in ("head", "attn")]
    settings = CaptureConfig(8, seed=0, batch_size=32)
    whole = source_examples(target.model, target.tokenizer, data.train_documents, sites, settings, data.vocabulary)
    found, _ = encoder_examples(
        target.model, target.tokenizer, data.train_documents, sites, data.vocabulary, CaptureConfig(8, seed=0)
    )
    read, kept = (whole.words >= 0).any(1), (found.words >= 0).any(1)
    assert int(kept.sum()) == int(read.sum()) > 0
    assert 0.1 < int((~kept).sum()) / int((~read).sum()) < 0.4
    assert torch.equal(found.write[kept], whole.write[read])


def test_without_documents_for_it_nothing_happens(target, data):
    reader = make_oracle().verbalizer
    add_source_slots(reader, target, data, data.train_documents, Stages(None, ""), quick(sources=None), 0)
    assert reader.slots.count == 2
    with pytest.raises(InputError, match="sources is None"):
        rehearsal_spec(reader, data, quick(sources=None), 0)
    with pytest.raises(InputError, match="practice_steps is 0"):
        quick(sources={"practice_steps": 0})


def test_sources_are_asked_for_as_often_as_told(data):
    asked = {}
    for share in (None, 1.0):
        items = WriteTexts(data.train, seed=0, sources_share=share)
        asked[share] = [items[index]["question"] for index in range(1, len(items), 2)]
    some = ["sources" in answers for answers in data.train.answers]
    assert [question == "sources" for question in asked[1.0]] == some
    assert sum(question == "sources" for question in asked[None]) < 0.6 * sum(some)


def test_sizes_below_one_are_refused():
    with pytest.raises(InputError, match="hidden is 0"):
        EncoderConfig(hidden=0)


def test_vectors_of_the_encoder_are_the_readers():
    reader = make_oracle().verbalizer
    encoder = new_encoder(reader, ["red"], EncoderConfig(hidden=3))
    assert encoder(*vectors(2, reader.d_act)).shape == (2, 1)
