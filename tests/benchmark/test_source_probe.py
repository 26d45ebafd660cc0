import torch

from tl_nla.benchmark.oracle_score import component_means, start_rows
from tl_nla.benchmark.source_probe import probe_distant_sources, score_source_probe
from tl_nla.oracle import Label, LabelledWrites
from tl_nla.oracle.questions import make_answer

SITES = ("blocks.0.attn.head.0", "blocks.0.mlp")


def writes(count, seed):
    """The first site's write is the sum of what it read; the second reads nothing."""
    words = torch.eye(8)
    generator = torch.Generator().manual_seed(seed)
    read = torch.stack([torch.randperm(8, generator=generator)[:2] for _ in range(count)])
    vectors = torch.cat([words[read].sum(1) + 0.01 * torch.randn(count, 8, generator=generator), torch.randn(count, 8)])
    listed = [tuple(f"w{i}" for i in row) for row in read.tolist()]
    answers = [{"sources": make_answer("sources", named, local=(), strong=1)} for named in listed]
    answers += [{"promotes": make_answer("promotes", ("a",))} for _ in range(count)]
    site = torch.arange(2).repeat_interleave(count)
    return LabelledWrites(
        torch.randn(2 * count, 8, generator=generator), vectors, [Label(("a",))] * (2 * count), answers, SITES, site,
        torch.arange(count).repeat(2), torch.ones(2 * count, dtype=torch.long),
    )  # fmt: skip


def test_what_is_in_the_write_is_found_and_nothing_else():
    train, held = writes(400, 0), writes(40, 1)
    named = probe_distant_sources(train, held)
    assert sorted(named) == list(range(40))
    right = [held.answers[row]["sources"].tokens for row in range(40)]
    assert sum(len(set(named[row]) & set(right[row])) for row in range(40)) >= 78
    rows = start_rows(held, component_means(train, SITES), (), 0)
    score_source_probe(rows, train, held)
    table = rows.counts["probe/recall_at_3/sources_distant"]
    assert float(table[:40, 0].sum() / table[:40, 1].sum()) > 0.95
    strong = rows.counts["probe/recall_at_3/sources_distant_strong"]
    assert strong[:40, 1].tolist() == [1.0] * 40
    assert (strong[:40, 0] <= table[:40, 0]).all()
    assert strong[:40, 0].mean() > 0.9
    assert table[40:].isnan().all()


def test_noise_tells_nothing():
    train, held = writes(400, 0), writes(40, 1)
    train.write[:400] = torch.randn(400, 8, generator=torch.Generator().manual_seed(9))
    named = probe_distant_sources(train, held)
    right = [held.answers[row]["sources"].tokens for row in range(40)]
    assert sum(len(set(named[row]) & set(right[row])) for row in range(40)) < 55
