"""A hosted NLA, against a local server with Neuronpedia's interface that describes vectors by their largest entry."""

import pytest
import torch

from tests import zoo
from tests.explainers.server import json_server
from tl_nla.adapters import VerbalizerAdapter, attach
from tl_nla.errors import InputError
from tl_nla.http import Patience
from tl_nla.nla.hosted import HostedNLA

D = zoo.D_MODEL
PATIENCE = Patience(wait=0.0, retries=2)


def of(vector):
    return {"description": f"largest is {max(range(len(vector)), key=vector.__getitem__)}", "mse": 0.5,
            "cosine_similarity": 0.75}  # fmt: skip


def answers(route, body):
    if route == "health":
        return {"d_model": D, "extraction_layer": 1, "models": ["m"]}
    if route == "describe":
        return {"results": [of(row) for row in body["activations"]]}
    if route == "score":
        return {"mse": float(len(body["description"])), "cosine_similarity": body["activation"][0]}
    if route == "compare":
        return of([a - b for a, b in zip(body["activation_a"], body["activation_b"], strict=True)])
    rows = [{"token": f"t{p}", "position": p, "l2_norm": 2.0, **of([0.0, 1.0])} for p in body["positions"]]
    return {"layer_index": 1, "results": rows}


def good(number, route, body):
    return 200, answers(route, body)


@pytest.fixture
def hosted(monkeypatch):
    monkeypatch.setenv("NEURONPEDIA_API_KEY", "secret")
    with json_server(good) as (address, record):
        yield HostedNLA(address, patience=PATIENCE), record


def test_an_adapter_explains_with_it(hosted, get_model):
    nla, record = hosted
    llama = get_model("bridge", "llama")
    adapter = VerbalizerAdapter(nla, nla.site, positions=[1, -1])
    with attach(llama, adapter):
        llama(zoo.tokens(2, 6))
    found = adapter.results()
    acts = adapter.reading()[nla.site]
    assert [row.text for row in found] == [f"largest is {int(act.argmax())}" for act in acts]
    assert [row.cosine for row in found] == [0.75] * 4
    assert [row.fve for row in found] == [None] * 4
    assert set(record["keys"]) == {"secret"}
    assert record["routes"] == ["health"] + ["describe"] * 4


def test_scores_comparisons_and_texts(hosted):
    nla, _ = hosted
    acts = torch.eye(D)[:2] * 3
    assert nla.verbalize(acts) == ["largest is 0", "largest is 1"]
    assert nla.score(["abc", "a"], acts).tolist() == [[3.0, 3.0], [1.0, 0.0]]
    assert nla.compare(acts[1], acts[0]).text == "largest is 1"
    told = nla.explain("a text", [0, 4], temperature=0.0)
    assert [(row.token, row.position, row.norm, row.description.text) for row in told] == [
        ("t0", 0, 2.0, "largest is 1"), ("t4", 4, 2.0, "largest is 1"),
    ]  # fmt: skip


def test_what_cannot_be_asked_is_refused(hosted):
    nla, record = hosted
    asked = len(record["bodies"])
    for call, says in (
        (lambda: nla.reconstruct(["a"]), "gives no vectors back"),
        (lambda: nla.verbalize(torch.zeros(1, D + 1)), f"{D}"),
        (lambda: nla.verbalize(torch.full((1, D), torch.nan)), "NaN"),
        (lambda: nla.score(["a"], torch.zeros(2, D)), "1 texts for 2 vectors"),
        (lambda: nla.explain("a", []), "0 positions"),
        (lambda: nla.explain("a", range(513)), "513 positions"),
    ):
        with pytest.raises(InputError, match=says):
            call()
    assert len(record["bodies"]) == asked


def test_a_busy_server_is_asked_again():
    with json_server(lambda n, route, body: (429, b"") if n in (0, 2) else good(n, route, body)) as (address, record):
        assert HostedNLA(address, patience=PATIENCE).verbalize(torch.eye(D)[:1]) == ["largest is 0"]
    assert record["routes"] == ["health", "health", "describe", "describe"]


@pytest.mark.parametrize(
    ("route", "reply", "says"),
    [
        ("health", {"d_model": "big"}, "health tells d_model 'big'"),
        ("health", b"<html>", "answered no JSON"),
        ("describe", {"results": [{"description": "x"}]}, "answer to /describe lacks"),
        ("score", {"mse": None, "cosine_similarity": 1.0}, "answer to /score lacks"),
        ("explain", {"results": [{"token": "x"}]}, "answer to /explain lacks"),
    ],
)
def test_strange_answers_are_one_clear_line(route, reply, says):
    def answer(number, asked, body):
        return 200, reply if asked == route else answers(asked, body)

    def ask_everything(address):
        nla = HostedNLA(address, patience=PATIENCE)
        nla.explain("a", [0])
        nla.verbalize(torch.eye(D)[:1])
        nla.score(["a"], torch.eye(D)[:1])

    with json_server(answer) as (address, _), pytest.raises(InputError, match=says):
        ask_everything(address)
