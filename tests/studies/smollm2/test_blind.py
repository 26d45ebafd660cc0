"""The blind reader: it tells planted effects from words that mean them, and nothing from others."""

from collections import defaultdict

import pytest
import torch

from docs.studies.smollm2.blind import Asked, ask, kept_rows, rows_of, spearman
from docs.studies.smollm2.blind_table import as_markdown
from docs.studies.smollm2.effects import Effects
from docs.studies.smollm2.labels import Said, nearest, strongest
from docs.studies.smollm2.writes import AllWrites
from tl_nla.oracle.words.tables import unit_rows

DOCUMENTS, WORDS, WIDTH = 12, 120, 6
SITES = ["blocks.0.attn.head.0", "blocks.0.attn.head.1", "blocks.0.attn", "blocks.0.mlp"]


@pytest.fixture(scope="module")
def found():
    """Every write raises words near a direction of its own; the labels name some of them."""
    generator = torch.Generator().manual_seed(0)
    vectors = unit_rows(torch.randn(WORDS, WIDTH, generator=generator))
    writes = torch.randn(DOCUMENTS, len(SITES), WIDTH, generator=generator)
    added = writes @ vectors.T
    nothing = torch.zeros(DOCUMENTS, 1)
    rows = AllWrites(nothing, nothing, nothing, nothing, torch.arange(DOCUMENTS), nothing)
    clean = torch.randn(DOCUMENTS, WORDS, generator=generator)
    asked = Asked.of(Effects(rows, clean, added.half()), {"embeddings": vectors})
    scores = defaultdict(list)
    for number in range(len(SITES)):
        named = {"oracle, 8 words": strongest(added[:, number], 8), "strongest": strongest(-added[:, number], 8)}
        ask(asked, number, {**named, "none": None}, scores)
    return rows_of(SITES, scores, rows.document)


def test_words_that_mean_the_effect_are_read_and_others_are_not(found):
    value = {(row["variant"], row["task"]): row["value"] for row in found
             if (row["kind"], row["where"], row["label"]) == ("head", "all", "oracle, 8 words")}  # fmt: skip
    for task, chance, least in (("next word", 0.1, 0.5), ("effect", 0.0, 0.7), ("which write", 0.1, 0.8)):
        assert value["right", task] > least
        for other in ("permuted", "shuffled"):
            assert value[other, task] < chance + 0.25
        assert value["right", task] > value["nearest", task] > value["permuted", task]


def test_heads_are_judged_each_and_labels_that_are_missing_are_left_out(found):
    heads = [row for row in found if row["kind"] == "one head" and row["task"] == "effect"]
    assert {row["where"] for row in heads} == {"L0.H0", "L0.H1"}
    assert all(row["above_low"] > 0 for row in heads)
    assert {row["label"] for row in found} == {"oracle, 8 words", "strongest"}
    assert "| embeddings | 2 of 2 |" in as_markdown(found)


def test_bands_of_layers_show_what_is_gained_over_the_plain_unembedding(found):
    kept = kept_rows(found)
    row, plain = (one for one in kept if (one["kind"], one["where"], one["task"]) == ("mlp", "layers 0 to 9", "effect"))
    assert row["plain_value"] == pytest.approx(row["value"] - plain["value"], abs=2e-4)
    assert plain["value"] < 0 < row["plain_low"]
    assert not any(one["task"] == "next word" and one["where"] != "all" for one in kept)
    told = f"{row['above_value']:.2f} [{row['above_low']:.2f}, {row['above_high']:.2f}] / {row['plain_value']:.2f} ["
    assert f"| mlp | effect | oracle, 8 words | {told}" in as_markdown(kept)


def test_rank_correlation_of_rows():
    left = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    right = torch.tensor([[2.0, 4.0, 9.0], [9.0, 4.0, 2.0], [5.0, 5.0, 5.0]])
    torch.testing.assert_close(spearman(left, right), torch.tensor([1.0, -1.0, 0.0]))


def test_lists_are_weighted_by_their_own_order():
    said = Said.of(torch.tensor([[3, 5, 7, -1]]), torch.tensor([[1.0, -1.0, 1.0, -1.0]]))
    torch.testing.assert_close(said.weight, torch.tensor([[1.0, -1.0, 0.5**0.5, 0.0]]))
    assert nearest(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])).tolist() == [1, 0, 1]
