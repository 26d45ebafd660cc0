"""The suites of diff oracles on made-up row scores, and their texts on a random model's writes."""

from dataclasses import replace

import pytest
import torch

from docs.studies.oracle_rows import load_rows, save_rows
from tests import zoo
from tests.oracle.tiny import make_oracle
from tl_nla.benchmark import heads_suite, layers_suite, oracle_suite, questions_suite, spans_suite
from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_score import score_long_context
from tl_nla.benchmark.oracle_suite import ScoredOracles
from tl_nla.benchmark.oracle_texts import (
    TEXT_ARMS,
    MadeTexts,
    arm_texts,
    context_ids,
    long_context_texts,
    raw_contexts,
    shuffled_rows,
    sum_budgets,
)
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.metrics import squared_errors
from tl_nla.model.sites import Site
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import CaptureConfig, capture_writes, parse_label

SPAN = "blocks.0.hook_resid_pre -> blocks.1.hook_resid_post"
SITES = ("blocks.0.attn.head.0", "blocks.0.attn.head.1", "blocks.1.attn.head.0", "blocks.0.attn", "blocks.0.mlp",
         "blocks.0", SPAN)  # fmt: skip
ERRORS = {"mean": 1.0, "explanation": 0.2, "gold": 0.1, "cat": 0.5, "cat_and_explanation": 0.15, "state": 0.75}


def make_rows(seed):
    site = torch.arange(len(SITES)).repeat_interleave(10)
    document = torch.arange(10).repeat(len(SITES))
    rows = OracleRows(seed, SITES, SITES[2:3], torch.zeros(8, 4), site, document, document, torch.ones(70))
    rows.errors = {arm: torch.full((70,), error) for arm, error in ERRORS.items()}
    rows.errors["sum_of_heads"] = torch.where(site == 3, 0.25, torch.nan)
    rows.errors["cat_long"] = torch.where(site == 3, 0.4, torch.nan)
    both = torch.tensor([[1.0, 2.0]]).repeat(70, 1)
    score = torch.arange(70.0)
    rows.counts = {"explanation/recall_at_4/promotes": both,
                   "probe/auc/skip_flip": torch.stack([score, (score > 30).float()], 1),
                   "explanation/spearman/strength": torch.stack([score, score**2], 1)}  # fmt: skip
    rows.counts["explanation/recall_at_3/sources_distant"] = both.where(site[:, None] < 4, torch.nan)
    rows.curves = {"gold": torch.tensor([[100.0, 0.5, 0.4, 0.3, 0.2, 0.1], [200.0, 0.7, 0.6, 0.5, 0.4, 0.3]])}
    return rows


def scored(parts=None, **others):
    return ScoredOracles("tiny", parts or [make_rows(0), make_rows(1)], "made up", **others)


def values(results, metric, **where):
    return {row.arm: row.value for row in results.rows
            if row.metric == metric and all(getattr(row, key) == value for key, value in where.items())}  # fmt: skip


def test_rows_are_kept(tmp_path):
    save_rows([make_rows(0), make_rows(1)], tmp_path / "rows.safetensors")
    first, second = load_rows(tmp_path / "rows.safetensors")
    assert (first.seed, second.seed) == (0, 1)
    assert first.sites == SITES
    assert first.untrained == SITES[2:3]
    torch.testing.assert_close(first.errors["gold"], make_rows(0).errors["gold"], rtol=1e-3, atol=0)
    torch.testing.assert_close(first.curves["gold"], make_rows(0).curves["gold"])
    for name, table in make_rows(0).counts.items():
        torch.testing.assert_close(first.counts[name], table, rtol=1e-3, atol=0, equal_nan=True)
    assert first.rows_of("head").tolist() == list(range(20))
    assert first.rows_of("head", False).tolist() == list(range(20, 30))
    assert len(first.rows_of("head", None)) == 30


def test_heads():
    results = heads_suite.evaluate(scored())
    assert results.seeds == [0, 1]
    whole = values(results, "fve", split="heldout", layer=None)
    assert whole == pytest.approx({arm: 1 - error for arm, error in ERRORS.items()}, abs=1e-3)
    assert values(results, "fve", split="heldout", layer=0, head=1) == pytest.approx(whole, abs=1e-6)
    assert values(results, "fve", split="heldout", layer=1) == {}
    assert set(values(results, "fve", split="heldout_heads", layer=1, head=None)) == set(ERRORS)
    assert values(results, "fve/increment", layer=None) == pytest.approx({"cat_and_explanation": 0.35}, abs=1e-3)
    assert values(results, "fve/minus_cat", layer=0) == pytest.approx({"explanation": 0.3}, abs=1e-3)
    assert values(results, "fve/step_200") == pytest.approx({"gold": 0.7})
    assert values(results, "fve/longer") == values(results, "fve/plateau") == {}


def test_readers_without_their_refinements_have_rows_of_their_own():
    parts = [make_rows(0), make_rows(1)]
    for part in parts:
        part.errors |= {"unrefined/explanation": torch.full((70,), 0.4), "unrefined/cat": torch.full((70,), 0.9)}
    results = heads_suite.evaluate(scored(parts))
    assert values(results, "fve", split="heldout", layer=None)["explanation"] == pytest.approx(0.8, abs=1e-3)
    linear = values(results, "fve/unrefined", layer=None)
    assert set(linear) == set(ERRORS)
    assert linear["explanation"] == pytest.approx(0.6, abs=1e-3)
    assert linear["gold"] == pytest.approx(0.9, abs=1e-3)
    gap = values(results, "fve/unrefined_increment", layer=0, head=None)
    assert gap["explanation"] == pytest.approx(0.5, abs=1e-3)
    assert not [row for row in results.rows if row.arm.startswith("unrefined")]
    assert make_rows(0).unrefined().errors.keys() == make_rows(0).errors.keys()
    (beside,) = oracle_suite.trained_on_them([replace(parts[0], untrained=())], [make_rows(0)])
    torch.testing.assert_close(beside.errors["explanation"], torch.full((70,), 0.4))


def test_heads_left_out_stand_beside_themselves_trained_on():
    without, knowing = make_rows(1), [replace(make_rows(seed), untrained=()) for seed in (0, 1)]
    without.errors["explanation"] = torch.full((70,), 1.5)
    without.counts["explanation/recall_at_4/promotes"] = torch.tensor([[0.5, 2.0]]).repeat(70, 1)
    assert oracle_suite.trained_on_them([make_rows(1)], [without]) == []
    both = scored(knowing, untrained=[without])
    heads, asked = heads_suite.evaluate(both), questions_suite.evaluate(both)
    only = {"split": "heldout_heads", "layer": None}
    assert values(heads, "fve", **only)["explanation"] == pytest.approx(-0.5, abs=1e-3)
    assert values(heads, "fve/trained_on", **only)["explanation"] == pytest.approx(0.8, abs=1e-3)
    assert next(row.n for row in heads.rows if row.metric == "fve/trained_on" and row.layer is None) == 10
    told = values(asked, "recall_at_4/promotes/trained_on", split="heldout_heads")
    assert values(asked, "recall_at_4/promotes", split="heldout_heads") == pytest.approx({"explanation": 0.25})
    assert told == pytest.approx({"explanation": 0.5})


@pytest.mark.parametrize(
    ("kind", "label"), [("longer", "heads only, longer"), ("plateau", "through the model's own run")]
)
def test_other_readers_stand_beside_those_of_the_oracle(tmp_path, kind, label):
    longer = make_rows(0)
    errors = {"mean": 1.0, "cat": 0.3, "cat_and_explanation": 0.1}
    longer.errors = {arm: torch.full((70,), error) for arm, error in errors.items()}
    longer.curves = {"cat": torch.tensor([[900.0, 0.7, 0.6, 0.5, 0.4, 0.3]])}
    results = heads_suite.evaluate(scored(**{kind: [longer]}), figure=str(tmp_path / "heads.svg"))
    assert values(results, f"fve/{kind}", layer=0)["cat"] == pytest.approx(0.7, abs=1e-3)
    found = values(results, f"fve/{kind}_increment", layer=None)
    assert found == pytest.approx({"cat_and_explanation": 0.2}, abs=1e-3)
    assert values(results, f"fve/{kind}/step_900") == pytest.approx({"cat": 0.7})
    drawn = (tmp_path / "heads.svg").read_text()
    assert drawn.count(f"<!-- {label} -->") == 1
    assert drawn.count("<!-- the oracle's words -->") == 1


def test_the_gap_map_is_drawn(tmp_path):
    spans_suite.evaluate(scored(), figure=str(tmp_path / "gaps.svg"))
    assert "<!-- 0.55 -->" in (tmp_path / "gaps.svg").read_text()
    for suite in (heads_suite, spans_suite):
        with pytest.raises(InputError, match=r"\.svg, \.png"):
            suite.evaluate(scored(), figure=str(tmp_path / "gaps"))


def test_layers_and_spans():
    results = layers_suite.evaluate(scored())
    assert values(results, "fve/attn", layer=0)["sum_of_heads"] == pytest.approx(0.75, abs=1e-3)
    assert "sum_of_heads" not in values(results, "fve/block")
    assert values(results, "fve/attn_minus_cat", layer=None) == pytest.approx({"sum_of_heads": 0.25}, abs=1e-3)
    assert values(results, "fve/attn_minus_cat_long", layer=0) == pytest.approx({"sum_of_heads": 0.15}, abs=1e-3)
    assert "cat_long" not in values(results, "fve/block")
    spans = spans_suite.evaluate(scored())
    assert "cat_long" not in values(spans, "fve/0-0")
    assert values(spans, "fve/0-0")["explanation"] == pytest.approx(0.8, abs=1e-3)
    assert values(spans, "fve/gap/0-1") == pytest.approx({"explanation": 0.55}, abs=1e-3)


def test_arms_that_some_seeds_lack_are_of_the_others():
    parts = [make_rows(0), make_rows(1)]
    del parts[1].errors["state"]
    rows = {(row.arm, row.metric): row for row in spans_suite.evaluate(scored(parts)).rows if row.layer is None}
    assert rows["explanation", "fve/gap/0-1"].n == rows["state", "fve/0-1"].n == 10
    assert rows["explanation", "fve/0-1"].n == 20


def test_questions():
    results = questions_suite.evaluate(scored())
    assert values(results, "recall_at_4/promotes", split="heldout") == {"explanation": 0.5}
    assert values(results, "spearman/strength", split="heldout")["explanation"] == pytest.approx(1)
    rows = [row for row in results.rows if row.metric == "recall_at_3/sources_distant" and row.split == "heldout"]
    assert rows[0].n == 2 * 30
    assert values(results, "auc/skip_flip", split="heldout")["probe"] == pytest.approx(1)


def test_an_encoder_of_sources_stands_beside_the_reader():
    rows = make_rows(0)
    rows.counts["encoder/recall_at_3/sources_distant"] = torch.tensor([[1.0, 4.0]]).repeat(70, 1)
    found = values(questions_suite.evaluate(scored([rows])), "recall_at_3/sources_distant", split="heldout")
    assert found["encoder"] == pytest.approx(0.25)


def test_rows_of_some_kinds():
    rows = make_rows(0)
    rows.errors["mean"] = rows.deviation = torch.arange(70.0)
    found = rows.only(("mlp", "head"), ("gold", "nothing"))
    picked = [row for row in range(70) if Site.parse(SITES[row // 10]).kind in ("mlp", "head") and not 20 <= row < 30]
    assert found.deviation.tolist() == picked
    assert found.site.tolist() == [row // 10 for row in picked]
    assert found.document.tolist() == found.position.tolist() == [row % 10 for row in picked]
    assert {arm: len(errors) for arm, errors in found.errors.items()} == {"mean": len(picked), "gold": len(picked)}
    assert found.counts == found.curves == {}


def test_texts_of_the_arms(llama, tokenizer):
    documents = [Document(f"d/{n}", " ".join(f"w{i}" for i in zoo.tokens(1, 12, seed=n)[0].tolist())) for n in range(4)]
    writes = capture_writes(llama, tokenizer, documents, ["blocks.0.mlp", "blocks.1"], CaptureConfig(3, skips=False))
    row = 5
    words = documents[int(writes.document[row])].text.split()
    seen = words[: int(writes.position[row])]
    assert raw_contexts(writes, TextEncoder(tokenizer, llama), documents, [3] * len(writes))[row].split() == seen[-3:]
    budgets = [3] * row + [0] + [99] * (len(writes) - row - 1)
    ids = context_ids(writes, TextEncoder(tokenizer, llama), documents, budgets)
    assert ids[row] == []
    for place, (number, position) in enumerate(zip(writes.document.tolist(), writes.position.tolist(), strict=True)):
        if place != row:
            whole = tokenizer.encode(documents[number].text, add_special_tokens=False)[:position]
            assert ids[place] == whole[-budgets[place] :]
    made = MadeTexts(states=["s"] * len(writes))
    texts = {arm: arm_texts(arm, writes, TextEncoder(tokenizer, llama), documents, 0, False, made) for arm in TEXT_ARMS}
    assert texts["gold"][row] == writes.text(row)
    assert texts["cat"][row].startswith(f"layer {int(writes.site[row])} ")
    assert texts["cat_and_explanation"][row] == f"{texts['cat'][row]}; {writes.text(row)}"
    other = shuffled_rows(writes, 0)
    assert (writes.document[other] != writes.document).all()
    assert torch.equal(writes.site[other], writes.site)
    told = arm_texts("gold", writes, TextEncoder(tokenizer, llama), documents, 0, True)
    assert {parse_label(text).component for text in told} <= {None, "layer 0 mlp", "layer 1 block"}


def test_long_context_is_as_long_as_all_heads_texts(llama, tokenizer):
    documents = [Document(f"d/{n}", " ".join(f"w{i}" for i in zoo.tokens(1, 40, seed=n)[0].tolist())) for n in range(3)]
    sites = ["blocks.0.attn.head.0", "blocks.1.attn.head.1", "blocks.1.attn", "blocks.1.attn.head.2", "blocks.0.mlp"]
    writes = capture_writes(llama, tokenizer, documents, sites, CaptureConfig(2, skips=False))
    said = [f"w1 w2 w{row}" if writes.site[row] != 3 else "w1 w2" for row in range(len(writes))]
    texts = long_context_texts(writes, said, TextEncoder(tokenizer, llama), documents)
    attentions = torch.nonzero(writes.site == 2).flatten().tolist()
    assert list(texts) == attentions
    assert sum_budgets(writes, said, tokenizer) == dict.fromkeys(attentions, 5)
    for row, text in texts.items():
        seen = documents[int(writes.document[row])].text.split()[: int(writes.position[row])]
        assert text == f"layer 1 attention read {' '.join(seen[-5:])}"

    rows = OracleRows(0, writes.sites, (), torch.zeros(6, 4), writes.site, writes.document, writes.position,
                      writes.write[:, 0])  # fmt: skip
    reader = make_oracle().reconstructor
    score_long_context(rows, reader, texts, writes)
    errors = rows.errors["cat_long"]
    expected = squared_errors(reader.reconstruct(list(texts.values())), writes.write[attentions])
    torch.testing.assert_close(errors[attentions].float(), expected.float())
    assert torch.isnan(errors).sum() == len(writes) - len(attentions)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="no stored results"):
        load_rows(tmp_path / "none.safetensors")
