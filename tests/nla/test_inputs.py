"""Whatever can be given wrong to a pair, an oracle or an adapter ends in one of our errors, which names it."""

import math

import pytest
import torch

from tests import zoo
from tests.nla import checkpoints
from tests.nla.checkpoints import CHAR
from tests.oracle.tiny import make_oracle
from tl_nla.adapters import DiffAdapter, SteeringAdapter, VectorAdapter, VerbalizerAdapter, attach
from tl_nla.amounts import check_count, check_number
from tl_nla.errors import InputError
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.nla.adaptation import adapt
from tl_nla.nla.inputs import check_acts, check_generator, check_ids, check_texts
from tl_nla.nla.rollouts import RolloutConfig
from tl_nla.steering.change import change_states
from tl_nla.steering.vectors import SteeringVector

pytestmark = pytest.mark.usefixtures("unchecked")
D = zoo.D_MODEL
POINT = "blocks.1.hook_resid_post"
NAN = float("nan")

BAD_VECTORS = [
    (torch.zeros(D), r"have shape \(32,\).*one vector is vector\[None\]"),
    (torch.zeros(1, 2, D), r"have shape \(1, 2, 32\)"),
    (torch.zeros(2, D + 1), "have shape"),
    (torch.zeros(()), "have shape"),
    (torch.zeros(0, D), "were given; at least one row"),
    (torch.zeros(2, D, dtype=torch.long), "torch.int64; give a floating dtype"),
    (torch.zeros(2, D, dtype=torch.complex64), "give a floating dtype"),
    (torch.full((2, D), NAN), r"NaN or infinite values in rows \[0, 1\]"),
    (torch.full((1, D), math.inf), "NaN or infinite"),
    ([[0.0] * D], "are list; give a tensor"),
    (None, "are NoneType; give a tensor"),
    ("text", "are str; give a tensor"),
]
BAD_TEXTS = [
    ("text", r"one string \('text'\); give a list"),
    (b"text", "one string"),
    (None, "are NoneType; give a list"),
    (5, "are int; give a list"),
    ([], "were given; at least one text"),
    ((), "were given; at least one text"),
    ([None], "text 0 is NoneType"),
    (["a", 5], r"text 1 is int \(5\)"),
    (["a", ["b"]], "text 1 is list"),
    ({"a": 1}, "are dict; give a list"),
    (torch.zeros(2), "are Tensor; give a list"),
    (["a", "b\ud800"], "text 1 holds half a character"),
]
BAD_SETTINGS = [
    ({"max_new_tokens": 0}, "max_new_tokens is 0; at least 1"),
    ({"max_new_tokens": -3}, "max_new_tokens is -3; at least 1"),
    ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5; give a whole number"),
    ({"max_new_tokens": None}, "max_new_tokens is None"),
    ({"max_new_tokens": True}, "max_new_tokens is True"),
    ({"temperature": NAN}, "temperature is nan; allowed: 0 or above"),
    ({"temperature": math.inf}, "temperature is inf"),
    ({"temperature": -1.0}, "temperature is -1.0"),
    ({"temperature": "hot"}, "temperature is 'hot'; give a number"),
    ({"batch_size": 0}, "batch_size is 0; at least 1"),
    ({"batch_size": "many"}, "batch_size is 'many'"),
    ({"generator": 0}, "generator is 0; give torch.Generator"),
    ({"generator": [torch.Generator()] * 5}, "5 generators for 2 rows"),
]


@pytest.fixture(scope="module")
def pair():
    made = NLA.create(
        checkpoints.source_model("qwen2"), checkpoints.byte_tokenizer(), 1, InjectionConfig("constant", 5.0),
        checkpoints.AV_TEMPLATE,
    )  # fmt: skip
    return made.eval()


@pytest.fixture(scope="module")
def oracle():
    return make_oracle()


def refused(match, call, *arguments, **settings):
    with pytest.raises(InputError, match=match):
        call(*arguments, **settings)


def ids(*numbers):
    return torch.tensor([numbers])


@pytest.mark.parametrize(("vectors", "says"), BAD_VECTORS)
def test_vectors(pair, oracle, vectors, says):
    good = torch.randn(1 if not isinstance(vectors, torch.Tensor) or not vectors.ndim else len(vectors), D)
    for explain in (pair.verbalize, pair.generate, adapt(pair, torch.randn(40, D), torch.randn(40, D), 0).verbalize):
        refused(says, explain, vectors, max_new_tokens=1)
    for write, before in ((vectors, good), (good, vectors)):
        if len(good):
            refused(says, oracle.explain, write, before, max_new_tokens=1)
            refused(says, oracle.ask, "promotes", write, before, max_new_tokens=1)
            refused(says, oracle.fit, before, write)


def test_pairs_of_vectors(oracle):
    refused("2 writes and 1 states before", oracle.explain, torch.randn(2, D), torch.randn(1, D))
    refused("unknown question", oracle.ask, None, torch.randn(2, D), torch.randn(2, D))
    refused("at_least is -1", oracle.ask, "promotes", torch.randn(2, D), torch.randn(2, D), at_least=-1)
    refused("at_least is 1.5", oracle.ask, "promotes", torch.randn(2, D), torch.randn(2, D), at_least=1.5)


@pytest.mark.parametrize(("texts", "says"), BAD_TEXTS)
def test_texts(pair, oracle, texts, says):
    adapted = adapt(pair, torch.randn(40, D), torch.randn(40, D), 0)
    for read in (
        pair.reconstruct, pair.reconstructor.reconstruct, pair.reconstructor.read, pair.reconstructor.encode,
        pair.verbalizer.encode_responses, adapted.reconstruct, oracle.reconstruct, oracle.verbalizer.encode_responses,
    ):  # fmt: skip
        refused(says, read, texts)


def test_lists_of_any_kind_are_read(pair):
    expected = pair.reconstruct(["a", "b c"])
    for texts in (("a", "b c"), iter(["a", "b c"])):
        assert torch.equal(pair.reconstruct(texts), expected)


@pytest.mark.parametrize(("settings", "says"), BAD_SETTINGS)
def test_settings(pair, oracle, settings, says):
    vectors = torch.randn(2, D)
    refused(says, pair.verbalize, vectors, **settings)
    refused(says, oracle.explain, vectors, vectors, **settings)
    refused(says, oracle.ask, "skip", vectors, vectors, **settings)


def test_settings_of_reading_back(pair, oracle):
    for part in (pair, oracle):
        for size in (0, -1, 1.5, None):
            refused("batch_size is", part.reconstruct, ["a"], batch_size=size)
    refused("samples is 0", pair.generate, torch.randn(1, D), samples=0)
    refused("temperature is nan", RolloutConfig, temperature=NAN)
    refused("temperature is 0", RolloutConfig, temperature=0.0)
    refused("group is 1.5", RolloutConfig, group=1.5)
    refused("layer is", NLA.create, pair.verbalizer.model, pair.verbalizer.tokenizer, "2", InjectionConfig("raw"))


def bad_ids(size):
    """Ids that a vocabulary of this size does not have, and what is no ids."""
    return [
        (ids(1, size), f"run from 1 to {size}; the vocabulary has 0 to {size - 1}"),
        (ids(-1, 2), "run from -1 to 2"),
        (ids(1.0, 2.0), "are a torch.float32 tensor"),
        (torch.tensor([1, 2]), r"have shape \(2,\)"),
        (torch.zeros(1, 0, dtype=torch.long), r"have shape \(1, 0\)"),
        ([[1, 2]], "are list; give an integer tensor"),
    ]


def test_ids(pair, oracle):
    vectors, mask = torch.randn(1, D), torch.ones(1, 2)
    for bad, says in bad_ids(pair.verbalizer.model.get_input_embeddings().weight.shape[0]):
        refused(f"response ids {says}", pair.verbalizer, vectors, bad)
        refused(f"input ids {says}", pair.reconstructor, bad, mask)
    for bad, says in bad_ids(oracle.verbalizer.model.get_input_embeddings().weight.shape[0]):
        refused(f"response ids {says}", oracle.verbalizer, vectors, vectors, bad)
        refused(f"input ids {says}", oracle.reconstructor, bad, mask)
    refused("2 responses for 1 vectors", pair.verbalizer, vectors, ids(1, 2).repeat(2, 1))
    refused("2 responses for 1 vectors", oracle.verbalizer, vectors, vectors, ids(1, 2).repeat(2, 1))
    refused("attention_mask has shape", pair.reconstructor, ids(1, 2), torch.ones(1, 3))


class Mute:
    """A pair that says and reads whatever it was told to."""

    d_model = D

    def __init__(self, texts, vectors):
        self.texts, self.vectors = texts, vectors

    def verbalize(self, acts, **settings):
        return self.texts

    def explain(self, write, before, **settings):
        return self.texts

    def reconstruct(self, texts):
        return self.vectors


@pytest.fixture(scope="module")
def model(get_model):
    return get_model("bridge", "gpt2")


def read_with(adapter, model):
    with attach(model, adapter):
        model(zoo.tokens(1, 5))
    return adapter


@pytest.mark.parametrize(
    ("texts", "vectors", "says"),
    [
        (["a"], torch.randn(5, D), "said 1 texts of 5 vectors"),
        (["a", None, "b", "c", "d"], torch.randn(5, D), "text 1 is NoneType"),
        ("abcde", torch.randn(5, D), "one string"),
        (list("abcde"), torch.randn(4, D), "reads 4 vectors back from 5 texts"),
        (list("abcde"), torch.randn(5, D + 1), "vectors that Mute reads back have shape"),
        (list("abcde"), torch.full((5, D), NAN), "vectors that Mute reads back hold NaN"),
    ],
)
def test_what_adapters_are_told(model, texts, vectors, says):
    # VerbalizerAdapter lists what verbalize gives, so that a bare string comes as its letters there.
    if texts != "abcde":
        refused(says, read_with(VerbalizerAdapter(Mute(texts, vectors), POINT), model).results)
    refused(says, read_with(DiffAdapter(Mute(texts, vectors), "blocks.1.mlp"), model).results)


def test_results_of_adapters(model, oracle):
    adapter = read_with(VerbalizerAdapter(Mute(list("abcde"), torch.randn(5, D)), POINT), model)
    for bad, says in (
        (ids(1, 2, 3, 4, zoo.VOCAB), "the vocabulary has 0 to 63"),
        (ids(1, 2), r"tokens have shape \(1, 2\)"),
        (torch.tensor([1, 2, 3, 4, 5]), "tokens have shape"),
        ([[1, 2, 3, 4, 5]], "tokens are list"),
        ("w4", "tokens are str"),
    ):
        refused(says, adapter.results, bad)
    assert [row.text for row in adapter.results(ids(4, 5, 6, 7, 8))] == list("abcde")
    asked = read_with(DiffAdapter(oracle, "blocks.1.mlp"), model)
    refused("temperature is nan", asked.results, temperature=NAN)
    refused("max_new_tokens is -1", asked.results, max_new_tokens=-1)


def test_steering(model, pair):
    for bad, says in ((NAN, "strength is nan"), ("much", "strength is 'much'"), (None, "strength is None")):
        refused(says, SteeringAdapter, pair, POINT, str.upper, strength=bad)
        refused(says, VectorAdapter, SteeringVector(torch.ones(D), POINT), bad)
        with pytest.raises(InputError, match=says.replace("strength", "strength at position 0")):
            read_with(VectorAdapter(SteeringVector(torch.ones(D), POINT), lambda place, bad=bad: bad), model)
    with pytest.raises(InputError, match=r"has shape \(31,\), this model has d_model 32"):
        read_with(VectorAdapter(SteeringVector(torch.ones(D - 1), POINT)), model)
    refused("NaN", SteeringVector, torch.full((D,), NAN), POINT)
    refused(r"shape \(1, 32\); give \[d_model\]", SteeringVector, torch.ones(1, D), POINT)
    refused("strength is nan", SteeringVector, torch.ones(D), POINT, "", NAN)
    acts = torch.randn(2, D)
    refused("strength has shape", change_states, pair, acts, str.upper, "delta", torch.ones(3))
    refused("strength is 'x'", change_states, pair, acts, str.upper, "delta", "x")
    refused("not finite", change_states, pair, acts, str.upper, "delta", NAN)
    refused("text 0 is NoneType", change_states, pair, acts, lambda text: None, "delta", max_new_tokens=2)


def test_checks_by_themselves():
    assert check_count("n", 3) == 3
    assert check_number("x", 2) == 2.0
    check_acts(torch.zeros(1, 3), 3)
    assert check_texts(("a", CHAR)) == ["a", CHAR]
    check_ids(ids(0, 7), 8)
    check_generator([torch.Generator()] * 2, 2, torch.device("cpu"))
    refused("the generator is on cpu, the model on cuda", check_generator, torch.Generator(), 1, torch.device("cuda"))
    refused("x is inf; allowed: a finite number", check_number, "x", math.inf)
    refused("x is 1; allowed: 2 or above", check_number, "x", 1, 2)
