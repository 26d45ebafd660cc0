"""The model's own run on the end of a text, against one text at a time."""

import pytest
import torch

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.evaluation.own_run import Place, read_places
from tl_nla.reading import read

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
    ends = [Place(ids, [len(ids) - 1]) for ids in texts]
    whole = read_places(model, ends, SITES)
    single = read_places(model, ends, SITES, own=[2, 0, 1, 1, 2])
    assert torch.equal(single.write[:, 0], whole.write[torch.arange(5), torch.tensor([2, 0, 1, 1, 2])])
    assert single.before.shape[1] == 1


@pytest.mark.parametrize("places", [[], [Place([3, 4], [])], [Place([3, 4], [2])], [Place([3, 4], [-1])]])
def test_places_that_are_not_there_are_refused(model, places):
    with pytest.raises(InputError, match="position"):
        read_places(model, places, SITES)
