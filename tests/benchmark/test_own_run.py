"""The model's own run on the end of a text, against one text at a time."""

import pytest
import torch

from docs.studies.heads.plateau_data import read_places
from tests import zoo
from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.own_run import Place, cat_runs, read_ends, score_own_run
from tl_nla.data import Document
from tl_nla.errors import InputError
from tl_nla.metrics import squared_errors
from tl_nla.model.reading import read
from tl_nla.model.targets import Target
from tl_nla.oracle import CaptureConfig, capture_writes

SITES = ("blocks.0.attn.head.1", "blocks.1.mlp", "blocks.1.attn.head.0")


@pytest.fixture(scope="module", params=["bridge", *(["hooked"] if zoo.HAS_HOOKED_TRANSFORMER else [])])
def model(request):
    return (zoo.bridge if request.param == "bridge" else zoo.hooked_twin)("gpt2")


def test_many_texts_are_read_as_each_is_alone(model):
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(3, 40, (length,), generator=draw).tolist() for length in (9, 4, 12, 6, 5)]
    places = [Place(ids, positions) for ids, positions in zip(texts, ([8], [0, 3], [2, 5, 11], [5], [1]), strict=True)]
    found = read_places(model, places, SITES, batch_size=2)
    row = 0
    for ids, positions in places:
        for position in positions:
            alone = read(model, torch.tensor([ids[: position + 1]]), SITES, [-1])
            for place, site in enumerate(SITES):
                torch.testing.assert_close(found.write[row, place], alone[site][0], atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(found.before[row, place], alone.before(site)[0], atol=1e-5, rtol=1e-4)
            row += 1
    assert row == len(found.write) == len(found.before)


def test_ends_are_read_as_each_is_alone(model):
    draw = torch.Generator().manual_seed(1)
    texts = [torch.randint(3, 40, (length,), generator=draw).tolist() for length in (9, 4, 12, 4)]
    texts, own = texts + texts[:3], [2, 0, 1, 1, 1, 0, 2]
    found = read_ends(model, texts, SITES, own, batch_size=2)
    for row, (ids, site) in enumerate(zip(texts, own, strict=True)):
        alone = read(model, torch.tensor([ids]), SITES, [-1])
        torch.testing.assert_close(found.write[row], alone[SITES[site]][0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.before[row], alone.before(SITES[site])[0], atol=1e-5, rtol=1e-4)


def test_the_arm_sees_the_context_and_nothing_before_it(model):
    target = Target("tiny", model, zoo.tokenizer())
    documents = [Document(f"d/{n}", " ".join(f"w{i}" for i in zoo.tokens(1, 12, seed=n)[0].tolist())) for n in range(3)]
    writes = capture_writes(model, target.tokenizer, documents, SITES, CaptureConfig(3, skips=False))
    whole, lengths = cat_runs(target, writes, documents, ["w4 " * 40] * len(writes))
    assert lengths.tolist() == [40] * len(writes)
    torch.testing.assert_close(whole.write, writes.write, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole.before, writes.before, atol=1e-5, rtol=1e-4)
    cut, _ = cat_runs(target, writes, documents, ["w4 w5"] * len(writes))
    for row, (number, position) in enumerate(zip(writes.document.tolist(), writes.position.tolist(), strict=True)):
        ids = target.tokenizer.encode(documents[number].text, add_special_tokens=False)[:position][-2:]
        site = SITES[int(writes.site[row])]
        alone = read(model, torch.tensor([[target.tokenizer.bos_token_id, *ids]]), [site], [-1])
        torch.testing.assert_close(cut.write[row], alone[site][0], atol=1e-5, rtol=1e-4)
    rows = OracleRows(0, SITES, (), torch.zeros(4, 32), writes.site, writes.document, writes.position,
                      torch.ones(len(writes)))  # fmt: skip
    score_own_run(rows, target, writes, documents, ["w4 w5"] * len(writes))
    torch.testing.assert_close(rows.errors["own_run"], squared_errors(cut.write, writes.write))


@pytest.mark.parametrize("texts", [[], [[3], []]])
def test_texts_without_tokens_are_refused(model, texts):
    with pytest.raises(InputError, match="no tokens"):
        read_ends(model, texts, SITES, [0] * len(texts))


@pytest.mark.parametrize("places", [[], [Place([3, 4], [])], [Place([3, 4], [2])], [Place([3, 4], [-1])]])
def test_places_that_are_not_there_are_refused(model, places):
    with pytest.raises(InputError, match="position"):
        read_places(model, places, SITES)
