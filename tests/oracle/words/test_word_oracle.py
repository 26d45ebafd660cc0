"""The oracle of words on a random model: what it says rebuilds writes, names their component, and is kept exactly."""

from dataclasses import replace

import pytest
import torch

from lightning_modules.training.word_stage import BySite
from tests import zoo
from tl_nla.adapters import DiffAdapter
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.metrics import normalise
from tl_nla.oracle import DiffOracle, parse_label
from tl_nla.oracle.capture import CaptureConfig, capture_writes
from tl_nla.oracle.labels import STEPS
from tl_nla.oracle.words import FitConfig, WordOracle, WordTables, fit_code
from tl_nla.oracle.words.tables import frequent_words
from tl_nla.reports import layer_contributions

SITES = ["blocks.0.attn.head.1", "blocks.2.attn.head.3", "blocks.0.mlp", "blocks.2.attn", "blocks.1"]


def documents(first, count):
    return [Document(f"d/{n}", " ".join(f"w{i}" for i in zoo.tokens(1, 24, n)[0].tolist()))
            for n in range(first, first + count)]  # fmt: skip


@pytest.fixture(scope="module")
def made():
    model = zoo.bridge(zoo.hf_model("llama"))
    config = CaptureConfig(positions_per_document=6, skips=False, sources=1)
    train, held = (capture_writes(model, zoo.tokenizer(), documents(first, count), SITES, config)
                   for first, count in ((0, 16), (100, 4)))  # fmt: skip
    counts = torch.ones(zoo.VOCAB, dtype=torch.long)
    config = FitConfig(words=8, rows=100)
    return model, train, held, WordOracle.fitted(model, zoo.tokenizer(), BySite(train), counts, config, "zoo")


def fve(oracle, train, held, texts, site):
    mean = normalise(train.write[train.site == site]).mean(0)
    rows = held.site == site
    truth = normalise(held.write[rows])
    found = normalise(oracle.reconstruct([text for text, own in zip(texts, rows.tolist(), strict=True) if own]))
    return 1 - float((found - truth).square().sum() / (truth - mean).square().sum())


def test_its_words_rebuild_held_out_writes_and_those_of_others_do_not(made):
    _, train, held, oracle = made
    texts = oracle.explain(held.write, held.before)
    other = [texts[i] for i in held.site.argsort(stable=True).view(5, -1).roll(1, 1).flatten()
             [held.site.argsort(stable=True).argsort()].tolist()]  # fmt: skip
    for site in range(len(SITES)):
        assert fve(oracle, train, held, texts, site) > (0.9 if "head" in SITES[site] else 0.5)
        assert fve(oracle, train, held, other, site) < 0.2
    assert len(set(texts)) > 0.9 * len(texts)


def test_fewer_words_say_less(made):
    _, train, held, oracle = made
    found = [fve(oracle, train, held, oracle.explain(held.write, held.before, words=words), 0) for words in (2, 4, 8)]
    assert found[0] < found[1] < found[2]


def test_it_tells_the_component_and_believes_a_caller(made):
    _, _, held, oracle = made
    told = oracle.code.tell_component(held.before, held.write)
    assert float((told == held.site).float().mean()) > 0.95
    heads = held.site < 2
    assert torch.equal(told[heads], held.site[heads])
    said = oracle.explain(held.write[:1], held.before[:1], sites=["blocks.1"])
    assert parse_label(said[0]).component == "layer 1 block"
    with pytest.raises(InputError, match="unknown site of this oracle"):
        oracle.explain(held.write[:1], held.before[:1], sites=["blocks.7.mlp"])


def test_promoted_words_point_along_the_write_in_the_logits(made):
    _, _, held, oracle = made
    rows = torch.nonzero(held.site == 0).flatten()[:20]
    code, site = oracle.code, SITES[0]
    beside = normalise(held.write[rows]) - code.mean[0]
    word, _ = code.choose(0, held.write[rows], 2)
    logits = beside @ code.tables.table.T
    own = logits.gather(1, word.clamp_min(0))
    assert bool((own[:, 0] > 0).all())
    assert float((own[:, 1] < 0)[word[:, 1] >= 0].float().mean()) > 0.8
    width = code.shape[site].shape[1]
    torch.testing.assert_close(code.tables.directions(site).square().mean(1), torch.ones(len(code.text)))
    assert code.tables.directions(site).shape[1] == width


def test_it_answers_lists_and_refuses_what_words_do_not_tell(made):
    _, _, held, oracle = made
    write, before = held.write[:3], held.before[:3]
    for text, answer in zip(oracle.explain(write, before), oracle.ask("promotes", write, before), strict=True):
        assert answer.tokens == parse_label(text).promoted
    assert oracle.ask("alignment", write, before)[0].tokens
    with pytest.raises(InputError, match="cannot answer 'sources'"):
        oracle.ask("sources", write, before)
    with pytest.raises(InputError, match="words is 9"):
        oracle.explain(write, before, words=9)


def test_junk_reads_as_what_is_known_of_it(made):
    oracle = made[3]
    texts = ["", "layer 0 head 1 promotes nonsense; deviation seven", "not a label", "layer 0 head 1"]
    found = oracle.reconstruct(texts)
    assert torch.equal(found[[0, 2]], torch.zeros(2, oracle.d_model))
    torch.testing.assert_close(normalise(found[1]), normalise(oracle.code.mean[0]))
    torch.testing.assert_close(found[1], found[3])


@pytest.mark.parametrize("tables", [True, False])
def test_a_saved_oracle_says_the_same(made, tables, tmp_path):
    model, _, held, oracle = made
    oracle.save_pretrained(tmp_path / "oracle", tables=tables)
    if tables:
        loaded = DiffOracle.from_pretrained(tmp_path / "oracle")
    else:
        with pytest.raises(InputError, match="give the model"):
            WordOracle.from_pretrained(tmp_path / "oracle")
        loaded = WordOracle.from_pretrained(tmp_path / "oracle", model=model)
    assert isinstance(loaded, WordOracle)
    assert loaded.base == "zoo"
    texts = [oracle.explain(held.write, held.before), loaded.explain(held.write, held.before)]
    assert sum(one == other for one, other in zip(*texts, strict=True)) > 0.9 * len(held)
    torch.testing.assert_close(loaded.reconstruct(texts[0]), oracle.reconstruct(texts[0]), rtol=0.01, atol=0.01)


class Stopped(BySite):
    """Writes of which those of the third component interrupt."""

    def __getitem__(self, site):
        if site == SITES[2]:
            raise KeyboardInterrupt
        return super().__getitem__(site)


def test_a_fit_goes_on_where_it_was_interrupted(made, tmp_path):
    model, train, held, oracle = made
    given = torch.ones(zoo.VOCAB, dtype=torch.long), FitConfig(words=8, rows=100), "zoo", tmp_path
    with pytest.raises(KeyboardInterrupt):
        WordOracle.fitted(model, zoo.tokenizer(), Stopped(train), *given)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path.stem for path in kept} == set(SITES[:2])
    again = WordOracle.fitted(model, zoo.tokenizer(), BySite(train), *given)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was fitted is not fitted again"
    assert {path.stem for path in tmp_path.iterdir()} == set(SITES)
    assert again.explain(held.write, held.before) == oracle.explain(held.write, held.before)


def test_components_whose_states_lie_between_others_are_told(made):
    model, *_ = made
    sites, width = ["blocks.0.mlp", "blocks.1.mlp", "blocks.2.mlp"], model.cfg.d_model
    generator = torch.Generator().manual_seed(0)
    writes = {}
    for number, site in enumerate(sites):
        state = 0.006 * torch.randn(120, width, generator=generator)
        state[:, 0] += 1
        state[:, 1] += 0.06 * (number - 1)
        writes[site] = state, torch.randn(120, width, generator=generator)
    words = frequent_words(zoo.tokenizer(), torch.ones(zoo.VOCAB, dtype=torch.long))
    code, _ = fit_code(WordTables.of(model, words, sites), writes, FitConfig(words=4, rows=50))
    for number, (before, write) in enumerate(writes.values()):
        told = code.tell_component(before, write)
        assert float((told == number).float().mean()) > 0.9


def test_an_attention_that_is_one_head_for_the_most_part_is_not_taken_for_that_head(made):
    *_, oracle = made
    head = oracle.code.tables.basis["blocks.2.attn.head.3"]
    inside = head @ torch.randn(head.shape[1], 40)
    beside = torch.randn(len(head), 40)
    beside = beside - head @ (head.T @ beside)
    for share, own in ((0.98, False), (0.9999, True)):
        write = normalise(inside.T) * share**0.5 + normalise(beside.T) * (1 - share) ** 0.5
        told = oracle.code.tell_component(torch.randn(40, len(head)), write)
        assert bool((told == SITES.index("blocks.2.attn.head.3")).all()) is own


def test_whoever_reads_the_writes_names_their_components(made):
    model, *_, oracle = made
    blind = replace(oracle.code, teller=torch.zeros_like(oracle.code.teller))
    mistaken = WordOracle(blind, oracle.strength)
    tokens = zoo.tokens(2, 12)
    writes = DiffAdapter(mistaken, ["blocks.1", "blocks.2.attn"], positions=[3, -1])
    model.run_with_hooks(tokens, fwd_hooks=writes.hooks(model))
    names = {(row.site, parse_label(row.text).component) for row in writes.results(tokens)}
    assert names == {("blocks.1", "layer 1 block"), ("blocks.2.attn", "layer 2 attention")}
    report = layer_contributions(model, tokens[:1], mistaken, tokenizer=zoo.tokenizer(), skips=False)
    said = {cell.site: parse_label(cell.explanation).component for cell in report.cells if cell.explanation}
    assert {site: said[site] for site in ("blocks.1", "blocks.0.mlp")} == {
        "blocks.1": "layer 1 block", "blocks.0.mlp": "layer 0 mlp"}  # fmt: skip


def test_strengths_are_those_of_all_writes_not_of_the_first_ones(made):
    model, *_ = made
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(900, model.cfg.d_model, generator=generator)
    write = normalise(torch.randn(before.shape, generator=generator)) * torch.linspace(0.1, 1, 900)[:, None]
    words = frequent_words(zoo.tokenizer(), torch.ones(zoo.VOCAB, dtype=torch.long))
    tables = WordTables.of(model, words, ["blocks.0.mlp"])
    _, strength = fit_code(tables, {"blocks.0.mlp": (before, write)}, FitConfig(words=4, rows=50))
    counts = torch.bincount(strength.step(write, before), minlength=len(STEPS))
    assert counts[-1] < 400, "most writes are larger than those of the first documents, and would all be the strongest"
