"""Best of n: against a slow reference, never worse than greedy, and the same words in whatever batch."""

import pytest
import torch

from tests import zoo
from tests.nla.test_generation import make
from tl_nla import VerbalizerAdapter, attach, read
from tl_nla.errors import InputError
from tl_nla.metrics import squared_errors
from tl_nla.nla import BestOf
from tl_nla.nla.answers import AnswerRule

CAP = 8


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def nla(request):
    pair = make(request.param)
    pair.verbalizer.answers = AnswerRule("all")  # random weights never close a tag, and every row would fail
    return pair


@pytest.fixture(scope="module")
def acts():
    return torch.randn(6, zoo.D_MODEL, generator=torch.Generator().manual_seed(3))


class _EndsEarly(AnswerRule):
    """An explanation is what holds an odd number of bytes, so that some of a random model's rows fail."""

    def __init__(self):
        super().__init__("all")

    def extract(self, response):
        return response if len(response) % 2 else None


def errors(nla, generation, acts):
    return squared_errors(nla.reconstruct(generation.texts), acts)


def test_it_keeps_what_a_loop_over_single_vectors_keeps(nla, acts):
    best = BestOf(nla, 5, 1.0, seed=4)
    found = best.generate(acts, max_new_tokens=CAP)
    for row, act in enumerate(acts):
        said = [nla.generate(act[None], max_new_tokens=CAP)]
        noise = torch.Generator().manual_seed(4)
        said.append(nla.generate(act[None], max_new_tokens=CAP, temperature=1.0, samples=4, generator=[noise]))
        texts = [text for one in said for text in one.texts]
        losses = torch.cat([errors(nla, one, act[None].expand(len(one.texts), -1)) for one in said])
        losses[~torch.cat([one.extracted for one in said])] = torch.inf
        chosen = int(losses.argmin())
        assert found.texts[row] == texts[chosen]
        one, place = (said[0], 0) if chosen == 0 else (said[1], chosen - 1)
        assert torch.equal(found.ids[row][found.mask[row]], one.ids[place][one.mask[place]])


def test_it_is_never_worse_than_greedy_and_mostly_better(nla, acts):
    best = BestOf(nla, 8, 1.0)
    greedy, found = (errors(nla, one.generate(acts, max_new_tokens=CAP), acts) for one in (nla, best))
    assert (found <= greedy + 1e-9).all()
    assert found.mean() < greedy.mean()


def test_what_could_not_be_extracted_is_the_last_choice(acts):
    nla, cap = make("llama"), 12
    best = BestOf(nla, 6, 1.0)
    nla.verbalizer.answers = _EndsEarly()
    parts = [nla.generate(acts, max_new_tokens=cap), nla.generate(
        acts, max_new_tokens=cap, temperature=1.0, samples=5, generator=[torch.Generator().manual_seed(0) for _ in acts]
    )]  # fmt: skip
    some = parts[0].extracted | parts[1].extracted.view(len(acts), 5).any(1)
    assert 0 < int(parts[1].extracted.sum()) < 30
    assert some.any()
    assert torch.equal(best.generate(acts, max_new_tokens=cap).extracted, some)


def test_words_do_not_depend_on_the_batch(nla, acts):
    best = BestOf(nla, 3, 1.0)
    whole = best.verbalize(acts, max_new_tokens=CAP)
    assert whole == [best.verbalize(act[None], max_new_tokens=CAP)[0] for act in acts]
    assert best.verbalize(acts.flip(0), max_new_tokens=CAP) == whole[::-1]


def test_one_sample_is_greedy_and_the_rest_is_the_pairs(nla, acts):
    best = BestOf(nla, 1)
    assert best.verbalize(acts, max_new_tokens=CAP) == nla.verbalize(acts, max_new_tokens=CAP)
    assert best.layer == nla.layer
    assert best.site == nla.site
    torch.testing.assert_close(best.reconstruct(["a", "b c"]), nla.reconstruct(["a", "b c"]))


def test_adapters_take_it_for_a_pair(get_model, nla):
    model, best = get_model("bridge", "llama"), BestOf(nla, 3, 1.0)
    adapter, tokens = VerbalizerAdapter(best, nla.site), zoo.tokens(1, 4)
    with attach(model, adapter):
        model(tokens)
    acts = read(model, tokens, [nla.site], "all")[nla.site]
    assert [row.text for row in adapter.results(tokens, max_new_tokens=CAP)] == best.verbalize(acts, max_new_tokens=CAP)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"temperature": 0.0}, "equal samples"),
        ({"temperature": -1.0}, "temperature"),
        ({"seed": 1.5}, "seed is 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        BestOf(make("llama"), **settings)


def test_its_own_settings_are_refused_in_a_call(nla, acts):
    with pytest.raises(InputError, match=r"samples, temperature cannot be given .* set them in BestOf"):
        BestOf(nla, 2).verbalize(acts, temperature=0.5, samples=3)


def test_what_is_no_pair_is_refused():
    with pytest.raises(InputError, match="str cannot sample words and read them back; give an NLA"):
        BestOf("smollm2")
