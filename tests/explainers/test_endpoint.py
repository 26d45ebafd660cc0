import threading

import pytest

from tests.explainers.moments import moments
from tests.explainers.server import chat_server
from tl_nla.errors import InputError
from tl_nla.explainers import EndpointConfig, EndpointExplainer
from tl_nla.http import Patience


def echo(number, body):
    return 200, "about " + body["messages"][0]["content"].split("number ")[1].split("\n")[0]


def asker(address, cache=None, **settings):
    return EndpointExplainer(EndpointConfig(address, "m", patience=Patience(wait=0.0, **settings)), cache)


def test_answers_come_in_order_and_equal_questions_are_asked_once(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    told = []
    with chat_server(echo) as (address, record):
        explainer = asker(address)
        explainer.progress = lambda done, whole: told.append((done, whole))
        assert explainer.explain_all([*moments(5), *moments(5)]) == [f"about {i}" for i in range(5)] * 2
    assert len(record["bodies"]) == 5
    assert set(record["keys"]) == {"Bearer secret"}
    assert record["bodies"][0]["model"] == "m"
    assert told == [(n, 5) for n in range(1, 6)]


def test_no_key_is_sent_where_there_is_none(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with chat_server(echo) as (address, record):
        assert asker(address)("text", moments(1)) == [("about 0", None)]
    assert record["keys"] == [None]


def test_no_more_requests_at_once_than_allowed():
    full = threading.Barrier(3, timeout=5)

    def slow(number, body):
        if number < 3:
            full.wait()  # three have to be there together
        return echo(number, body)

    with chat_server(slow) as (address, record):
        asker(address, concurrency=3).explain_all(moments(9))
    assert record["most"] == 3


def test_load_and_faults_are_tried_again():
    with chat_server(lambda n, body: (429, b"busy") if n == 0 else (503, b"") if n == 1 else echo(n, body)) as (
        address,
        record,
    ):
        assert asker(address).explain_all(moments(1)) == ["about 0"]
    assert len(record["bodies"]) == 3


@pytest.mark.parametrize(
    ("reply", "says", "tries"),
    [
        ((401, b"bad key"), "answered 401: bad key; check address, names and key", 1),
        ((500, b""), "answered 500 after 3 tries; run again", 3),
        ((200, b"<html>"), "answered no JSON", 1),
        ((200, b"{}"), "no chat answer", 1),
        ((200, "  "), "an empty answer; raise max_tokens", 1),
    ],
)
def test_refusals_are_one_clear_line(reply, says, tries):
    with chat_server(lambda n, body: reply) as (address, record), pytest.raises(InputError, match=says):
        asker(address, retries=2).explain_all(moments(1))
    assert len(record["bodies"]) == tries


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"cannot be reached \(ConnectError\) after 2 tries"):
        asker("http://127.0.0.1:9/v1", retries=1).explain_all(moments(1))


def test_a_run_that_was_cut_off_asks_the_rest_only(tmp_path):
    path = tmp_path / "answers.jsonl"
    with (
        chat_server(lambda n, body: echo(n, body) if n < 4 else (400, b"stop")) as (address, record),
        pytest.raises(InputError, match="answered 400"),
    ):
        asker(address, path, concurrency=1).explain_all(moments(9))
    assert len(record["bodies"]) >= 5
    path.write_bytes(path.read_bytes()[:-7])  # the crash cut the last line off
    with chat_server(echo) as (address, record):
        explainer = asker(address, path)
        assert explainer.cost(moments(9)).requests == 6
        assert explainer.explain_all(moments(9)) == [f"about {i}" for i in range(9)]
    assert len(record["bodies"]) == 6
    assert asker("http://127.0.0.1:9/v1", path, retries=0).explain_all(moments(9)) == [f"about {i}" for i in range(9)]


def test_cost_is_told_without_asking():
    config = EndpointConfig("http://127.0.0.1:9/v1", "m", max_tokens=100, prices=(1.0, 2.0))
    cost = EndpointExplainer(config).cost(moments(10))
    assert (cost.requests, cost.written) == (10, 1000)
    assert cost.read > 10 * 50
    assert cost.price == pytest.approx((cost.read + 2000) / 1e6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "localhost"}, "url is 'localhost'"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        EndpointConfig(**{"url": "http://x/v1", "model": "m", **settings})
