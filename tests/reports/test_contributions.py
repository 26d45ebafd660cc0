import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import families, tokenizers, zoo
from tests.attribution.reference import leave_out
from tests.oracle.tiny import make_oracle
from tl_nla.attribution import Component
from tl_nla.errors import InputError
from tl_nla.model.control import control_ids
from tl_nla.model.reading import read
from tl_nla.oracle.labels import StrengthReference
from tl_nla.oracle.texts import parse_label
from tl_nla.reports import ContributionReport, layer_contributions
from tl_nla.reports.report import Cell


@pytest.fixture(scope="module")
def report(get_model):
    model = get_model("bridge", "llama")
    return layer_contributions(model, zoo.tokens(1, 9), positions=[3, 8], tokenizer=zoo.tokenizer())


def test_parts_sum_to_the_logit_in_every_family(bridge):
    tokens = zoo.tokens(1, 9)
    report = layer_contributions(bridge, tokens, positions=[4, 8], tokenizer=zoo.tokenizer(), skips=False)
    capped = getattr(bridge.cfg, "output_logits_soft_cap", -1) or -1
    logits = bridge(tokens).detach()[0, [4, 8]].max(-1).values.tolist()
    for position, total, logit in zip(report.positions, report.totals, logits, strict=True):
        assert math.isclose(report.sum_of_parts(position), total, abs_tol=1e-4)
        assert capped > 0 or math.isclose(total, logit, abs_tol=1e-4)
        for layer in range(report.n_layers):
            cells = [cell for cell in report.at(position) if cell.layer == layer]
            value = {(cell.component, cell.head): cell.direct for cell in cells}
            heads = sum(value["head", head] for head in range(report.n_heads)) + value["bias", None]
            assert math.isclose(heads, value["attn", None], abs_tol=1e-4)
            assert math.isclose(heads + value["mlp", None], value["block", None], abs_tol=1e-4)


@pytest.mark.parametrize("kind", ["bridge", "hooked"])
def test_skips_equal_the_loop_and_follow_the_target(kind, get_model):
    model, tokens = get_model(kind, "gpt2"), zoo.tokens(1, 7)
    target = tokens.roll(-1, 1)[0]
    report = layer_contributions(model, tokens, target=target, positions=[2, 5], tokenizer=zoo.tokenizer())
    clean = model(tokens).detach().log_softmax(-1)[0]
    for cell in report.cells:
        if cell.site is None:
            assert cell.skip_kl is None
            continue
        part = Component(cell.component, cell.layer, cell.head, cell.layer)
        skipped = leave_out(model, tokens, part, cell.position).detach().log_softmax(-1)[0, cell.position]
        change = (skipped - clean[cell.position])[tokens[0, cell.position + 1]]
        assert math.isclose(cell.skip_target_change, float(change), abs_tol=1e-4)
        kl = (clean[cell.position].exp() * (clean[cell.position] - skipped)).sum()
        assert math.isclose(cell.skip_kl, float(kl), abs_tol=1e-4)
        assert cell.skip_flip == bool(skipped.argmax() != clean[cell.position].argmax())


def test_ranking_puts_what_the_output_needs_first(report):
    for by, name, sign in (("skip", "skip_target_change", 1), ("skip_kl", "skip_kl", -1), ("direct", "direct", -1)):
        values = [sign * getattr(cell, name) for cell in report.ranked(8, by=by)]
        assert values == sorted(values)
        assert len(values) == report.n_layers * (report.n_heads + 1)
    assert {cell.component for cell in report.ranked(8, ("block",))} == {"block"}


def test_words_are_of_the_cell(report):
    for cell in report.cells:
        if cell.site is None:
            continue
        label = parse_label(cell.explanation)
        assert list(label.promoted) == cell.promoted
        assert not set(cell.promoted) & set(cell.suppressed)
        assert all(place < cell.position for place in cell.source_positions)
        assert [report.tokens[place] for place in cell.source_positions] == [word for word, _ in cell.sources]
        assert (label.sources is None) == (cell.component not in ("head", "attn"))


class Echo:
    """Stands in for an oracle: says the norms of what it was given."""

    def __init__(self, kinds):
        names = {"head": "blocks.0.attn.head.0", "mlp": "blocks.0.mlp", "attn": "blocks.0.attn", "block": "blocks.0"}
        self.strength = StrengthReference({names[kind]: torch.linspace(0, 1, 101) for kind in kinds}, 0.1, 10.0)

    def explain(self, write, before, ending=""):
        sizes = zip(write.norm(dim=-1).tolist(), before.norm(dim=-1).tolist(), strict=True)
        return [f"{size:.4g} on {state:.4g}{ending}" for size, state in sizes]


def test_the_oracle_explains_every_write_with_its_state(get_model):
    model, tokens = get_model("bridge", "llama"), zoo.tokens(1, 6)
    oracle = Echo(("head", "mlp", "attn", "block"))
    report = layer_contributions(model, tokens, oracle, positions=[2, 5], tokenizer=zoo.tokenizer(), ending="!")
    assert report.explained_by == "oracle"
    sites = [cell.site for cell in report.cells if cell.site]
    reading = read(model, tokens, list(dict.fromkeys(sites)), [2, 5])
    for cell, write in zip([cell for cell in report.cells if cell.site], report.writes, strict=True):
        before = reading.before(cell.site)[(2, 5).index(cell.position)]
        assert cell.explanation == f"{write.norm():.4g} on {before.norm():.4g}!"
        assert math.isclose(cell.strength, float(write.norm() / before.norm()), rel_tol=1e-5)


def test_a_real_oracle_can_be_asked(get_model):
    model, oracle = get_model("bridge", "llama"), make_oracle()
    arguments = {"positions": -1, "tokenizer": zoo.tokenizer(), "skips": False, "max_new_tokens": 3}
    report = layer_contributions(model, zoo.tokens(1, 6), oracle, **arguments)
    assert report == layer_contributions(model, zoo.tokens(1, 6), oracle, **arguments)


def test_a_whole_layer_is_told_by_its_strongest_parts_where_the_oracle_knows_parts_only(get_model):
    model, oracle = get_model("bridge", "llama"), Echo(("head", "mlp"))
    report = layer_contributions(model, zoo.tokens(1, 6), oracle, positions=-1, tokenizer=zoo.tokenizer())
    block = next(cell for cell in report.cells if cell.component == "block")
    parts = [cell for cell in report.cells if cell.layer == 0 and cell.component in ("head", "mlp")]
    assert any(cell.explanation in block.explanation for cell in parts)
    assert block.explanation.count(" · ") == 2


def test_json_round_trip_and_frame(report, tmp_path):
    text = report.to_json(tmp_path / "report.json")
    assert ContributionReport.from_dict(json.loads(text)) == report
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(text)
    frame = report.to_frame()
    assert len(frame) == len(report.cells)
    assert set(frame["token"]) == {report.tokens[3], report.tokens[8]}
    damaged = json.loads(text)
    del damaged["cells"][3]["explanation"]
    with pytest.raises(InputError, match="cell 3 of the report lacks explanation"):
        ContributionReport.from_dict(damaged)


def test_difference_log_prob_and_no_skips(llama):
    ids = zoo.tokens(1, 6)
    difference = layer_contributions(llama, ids, target=5, against=7, skips=False, tokenizer=zoo.tokenizer())
    logits = llama(ids).detach()[0, -1]
    assert difference.targets == ("w5",)
    assert difference.against == ("w7",)
    assert math.isclose(difference.totals[0], float(logits[5] - logits[7]), abs_tol=1e-4)
    with pytest.raises(InputError, match="holds no skips"):
        difference.ranked(5)
    log_prob = layer_contributions(llama, ids, target="w5", quantity="log_prob", skips=False, tokenizer=zoo.tokenizer())
    assert math.isclose(log_prob.sum_of_parts(5), float(logits.log_softmax(-1)[5]), abs_tol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "w5 w6"}, "must be one token"),
        ({"target": torch.tensor([1, 2])}, "one for each of the 6 columns"),
        ({"target": 64}, "target is 64; allowed: token ids from 0 to 63"),
        ({"target": -1}, "target is -1; allowed: token ids from 0 to 63"),
        ({"target": True}, "target is True; allowed"),
        ({"target": 5.0}, "target is 5.0; allowed"),
        ({"target": 2**70}, "target is 1180591620717411303424; allowed"),
        ({"target": [1, 2, 3, 4, 5, True]}, r"target is \[1, 2, 3, 4, 5, True\]; allowed"),
        ({"target": torch.ones(6, dtype=torch.bool)}, "target is a tensor of torch.bool; allowed"),
        ({"target": torch.tensor([1, 2, 3, 4, 5, 64])}, "target is 64; allowed"),
        ({"target": {"id": 3}}, "target is {'id': 3}; allowed"),
        ({"target": "\ud83d"}, "target holds half a character"),
        ({"target": ""}, "must be one token, but is"),
        ({"target": "xyzzy"}, "'xyzzy' is no token of the vocabulary"),
        ({"target": 5, "against": 99}, "against is 99; allowed: token ids from 0 to 63"),
        ({"target": 5, "against": 1.5}, "against is 1.5; allowed"),
        ({"posititions": 3}, "unknown argument posititions; further settings are for oracle.explain"),
        ({"positions": 9}, "outside row 0"),
        ({"oracle": object()}, r"object has no explain\(\)"),
        ({"target": 5, "against": 5}, "the same token at every position"),
        ({"tokens": zoo.tokens(2, 6)}, "of one prompt"),
        ({"tokens": ""}, "the prompt is empty"),
        ({"tokens": zoo.tokens(1, zoo.N_CTX + 1)}, "shorten it"),
    ],
)
def test_bad_requests_are_one_clear_line(llama, arguments, message):
    given_ = {"tokens": zoo.tokens(1, 6), "tokenizer": zoo.tokenizer(), **arguments}
    with pytest.raises(InputError, match=message):
        layer_contributions(llama, **given_)


def test_a_compiled_model_gives_the_same_report(llama):
    ids, options = zoo.tokens(1, 5), {"tokenizer": zoo.tokenizer()}
    compiled = torch.compile(llama, backend="eager")
    assert layer_contributions(compiled, ids, **options) == layer_contributions(llama, ids, **options)


def test_text_and_ids_give_the_same_report(llama):
    tokenizer = zoo.tokenizer()
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode("w5 w9 w6", add_special_tokens=False)]])
    from_text = layer_contributions(llama, "w5 w9 w6", tokenizer=tokenizer)
    assert from_text == layer_contributions(llama, ids, tokenizer=tokenizer)


@settings(max_examples=5)
@given(length=st.integers(2, 10), seed=st.integers(0, 99))
def test_any_prompt_adds_up_and_leaves_no_trace(length, seed):
    from tests.fixtures import shared_model

    model, ids = shared_model("bridge", "qwen2"), zoo.tokens(1, length, seed)
    before = model(ids)
    report = layer_contributions(model, ids, positions="all", tokenizer=zoo.tokenizer(), skips=False)
    sums = [report.sum_of_parts(position) for position in report.positions]
    assert all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(sums, report.totals, strict=True))
    assert torch.equal(before, model(ids))


def test_cell_names():
    assert Cell(2, "head", 3, 0, 0.0).name == "L2 head 3"
    assert Cell(2, "head", 3, 0, 0.0).site == "blocks.2.attn.head.3"
    assert Cell(-1, "embed", None, 0, 0.0).name == "embedding"
    assert Cell(-1, "embed", None, 0, 0.0).site is None


def test_only_words_of_the_vocabulary_are_named(llama):
    from dataclasses import replace

    from tl_nla.oracle.labels import Vocabulary

    tokenizer = zoo.tokenizer()
    named = Vocabulary.of(tokenizer, int(llama.cfg.d_vocab))
    few = replace(named, allowed=named.allowed & (torch.arange(len(named.allowed)) % 5 == 0))
    tokens = zoo.tokens(1, 6)
    words = {text for text, allowed in zip(few.texts, few.allowed.tolist(), strict=True) if allowed}
    found = layer_contributions(llama, tokens, tokenizer=tokenizer, vocabulary=few, skips=False)
    said = {word.strip() for cell in found.cells for word in (*cell.promoted, *cell.suppressed) if cell.layer >= 0}
    everything = layer_contributions(llama, tokens, tokenizer=tokenizer, skips=False)
    assert said
    assert said <= words
    assert not {word.strip() for cell in everything.cells for word in cell.promoted if cell.layer >= 0} <= words


@pytest.mark.parametrize(("family", "shape"), [("qwen2", "qwen"), ("llama", "smollm"), ("llama", "adds_begin")])
def test_labels_name_no_control_token_that_a_head_read(family, shape):
    model, tokenizer = tokenizers.bridge(family, shape)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "<think>so</think>"}], tokenize=False)
    report = layer_contributions(model, text, positions=[3, 8, -1], skips=False)
    special = {tokenizer.decode([token]).strip() for token in control_ids(tokenizer)}
    assert special & {word for cell in report.cells for word, _ in cell.sources}, "the tables show what was read"
    told = [cell.explanation for cell in report.cells if cell.site]
    assert any(parse_label(text).sources for text in told)
    assert not [text for text in told if any(name in text for name in special)]


def test_where_nothing_tells_what_heads_read_no_label_says_that_they_read_nothing():
    report = layer_contributions(families.bridge("gemma4", tokenizer=True), zoo.tokens(1, 9), skips=False)
    assert [note for note in report.notes if "num_kv_shared_layers is 2" in note] == [
        note for note in report.notes if "what heads read" in note
    ]
    for cell in report.cells:
        if cell.component in ("head", "attn"):
            assert (parse_label(cell.explanation).sources is None) == (cell.layer in (2, 3))
