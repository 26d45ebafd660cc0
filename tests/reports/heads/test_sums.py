import pytest
import torch

from tl_nla.reports.heads.sums import NAMES, NEAR, OFFSETS, Attention, attention_sums, is_delimiter


def slow(pattern, real, delimiter):
    """Every query by itself."""
    batch, heads, length, _ = pattern.shape
    rows = []
    for head in range(heads):
        found = dict.fromkeys([*NAMES, *range(OFFSETS)], 0.0)
        for text in range(batch):
            for query in range(2, length):
                if not real[text, query]:
                    continue
                found["queries"] += 1
                for source in range(query + 1):
                    share, back = float(pattern[text, head, query, source]), query - source
                    marked = bool(delimiter[text, source]) and source > 0 and back > 0
                    found["delimiter_chance"] += marked / (query + 1)
                    if source == 0:
                        found["sink"] += share
                        continue
                    found["itself"] += share * (back == 0)
                    found["previous"] += share * (back == 1)
                    found["near"] += share * (2 <= back <= NEAR)
                    found["far"] += share * (back > NEAR)
                    found["delimiter"] += share * marked
                    if back < OFFSETS:
                        found[back] += share
        for query in range(2, length):
            if not bool(real[:, query].all()):
                continue
            own = pattern[:, head, query, 1 : query + 1]
            even = own.mean(0).sum() / query
            for text in range(batch):
                others = own[[other for other in range(batch) if other != text]].mean(0)
                found["unexplained"] += float((own[text] - others).square().sum())
                found["structure"] += float((own[text] - even).square().sum())
            found["peak"] += float((own.mean(0) - even).abs().sum()) * batch / 2
            found["beside"] += float(own.mean(0).sum()) * batch
        rows.append(list(found.values()))
    return torch.tensor(rows)


def some(length=24, batch=3, heads=2):
    scores = (
        torch.randn(batch, heads, length, length).mul(2).masked_fill(torch.ones(length, length).triu(1).bool(), -1e9)
    )
    real = torch.ones(batch, length, dtype=torch.bool)
    real[1, -5:] = False
    return scores.softmax(-1), real, torch.rand(batch, length) < 0.3


def test_sums_are_those_of_single_queries():
    pattern, real, delimiter = some()
    assert torch.allclose(attention_sums(pattern, real, delimiter), slow(pattern, real, delimiter), atol=1e-4)


def test_shares_add_up_and_padding_counts_nothing():
    pattern, real, delimiter = some()
    found = Attention.of(attention_sums(pattern, real, delimiter)[0].tolist())
    assert found.sink + found.itself + found.previous + found.near + found.far == pytest.approx(1, abs=1e-5)
    changed = pattern.clone()
    changed[1, :, -5:] = 7.0
    assert torch.equal(attention_sums(pattern, real, delimiter), attention_sums(changed, real, delimiter))


def test_an_even_spread_is_not_positional_and_a_shared_pattern_is():
    length = 20
    even = torch.ones(length, length).tril()
    even = (even / even.sum(-1, keepdim=True)).expand(4, 1, -1, -1)
    real, none = torch.ones(4, length, dtype=torch.bool), torch.zeros(4, length, dtype=torch.bool)
    assert Attention.of(attention_sums(even, real, none)[0].tolist()).peak == pytest.approx(0, abs=1e-4)
    shared = torch.eye(length).roll(-3, 1).expand(4, 1, -1, -1)
    found = Attention.of(attention_sums(shared, real, none)[0].tolist())
    assert found.positional == pytest.approx(1, abs=1e-4)
    alone = Attention.of(attention_sums(shared[:1], real[:1], none[:1])[0].tolist())
    assert alone.positional == 0.0  # with one text there is nothing to compare with


def test_signs_are_delimiters():
    assert is_delimiter([".", "\n", " ,", "a", "", "1", "—", " the", "'s"]).tolist() == [
        True, True, True, False, False, False, True, False, False,
    ]  # fmt: skip
