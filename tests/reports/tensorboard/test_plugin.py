"""The tab's server: what it lists and hands out, and that nothing it is asked breaks it."""

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard import default
from tensorboard.backend import application
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from torch.utils.tensorboard import SummaryWriter
from werkzeug.test import Client

from tests.reports.tensorboard import reports
from tl_nla.reports.packed import unpack
from tl_nla.reports.tensorboard.plugin.names import SHARED

_ROUTE = "/data/plugin/tl_nla_contributions"


def _server(folder, samples=0):
    return _server_and_multiplexer(folder, samples)[0]


def _server_and_multiplexer(folder, samples=0):
    """TensorBoard's own application on the folder, read by its own multiplexer."""
    from tl_nla.reports.tensorboard.plugin.plugin import ContributionsPlugin

    multiplexer = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance={"tl_nla_contributions": samples})
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    plugin = ContributionsPlugin(base_plugin.TBContext(logdir=str(folder), data_provider=provider))
    return Client(application.TensorBoardWSGI([plugin], data_provider=provider)), multiplexer


def _write(folder, tag="contributions/park", steps=(0,), **changes):
    from tl_nla.reports.tensorboard.plugin import write_contributions

    with SummaryWriter(folder) as writer:
        for step in steps:
            write_contributions(writer, tag, reports.report(step=step) | changes, step)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    _write(folder / "first run", steps=(0, 10, 25))
    _write(folder / "first run", "a question & <b>?", model='the "model"')
    _write(folder / "second")
    with SummaryWriter(folder / "other") as writer:
        writer.add_scalar("loss", 1.0, 0)
        writer.add_text("words", "no report", 0)
    return _server(folder)


def _get(client, route, **query):
    answer = client.get(_ROUTE + route, query_string=query)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.status_code, json.loads(answer.data)


def test_lists_runs_prompts_and_steps_of_reports_only(served):
    tags = ["contributions/a question & <b>?", "contributions/park"]
    assert _get(served, "/tags") == (200, {"runs": {"first run": tags, "second": ["contributions/park"]}})
    code, answer = _get(served, "/steps", run="first run", tag="contributions/park")
    assert code == 200
    assert [point["step"] for point in answer["steps"]] == [0, 10, 25]
    assert all(point["wall_time"] > 1e9 for point in answer["steps"])


def test_hands_out_the_report_that_was_written(served):
    for step in (10, 0, 25):
        code, answer = _get(served, "/report", run="first run", tag="contributions/park", step=step)
        assert code == 200
        reports.assert_same(unpack(answer), reports.report(step=step))
    _, answer = _get(served, "/report", run="first run", tag="contributions/a question & <b>?", step=0)
    assert unpack(answer)["model"] == 'the "model"'


def test_reports_of_earlier_releases_are_packed_when_they_are_asked_for(tmp_path):
    from tl_nla.reports.tensorboard.plugin import contribution_summary

    for tag, content in (("whole", reports.report()), ("odd", reports.report() | {"cells": [{}]})):
        summary = contribution_summary(tag, reports.report())
        summary.value[0].tensor.string_val[0] = json.dumps(content).encode()
        with SummaryWriter(tmp_path) as writer:
            writer._get_file_writer().add_summary(summary, 0)
    server = _server(tmp_path)
    code, answer = _get(server, "/report", run=".", tag="contributions/whole", step=0)
    assert code == 200
    reports.assert_same(unpack(answer), reports.report())
    code, answer = _get(server, "/report", run=".", tag="contributions/odd", step=0)
    assert (code, "lacks layer" in answer["error"]) == (422, True)


@pytest.mark.parametrize(
    ("route", "query", "code", "words"),
    [
        (
            "/steps",
            {"run": "third", "tag": "contributions/park"},
            404,
            "unknown run 'third'; allowed: first run, second",
        ),
        ("/steps", {"run": "second", "tag": "contributions/pork"}, 404, "nearest: contributions/park"),
        ("/report", {"run": "second", "tag": "contributions/park", "step": "7"}, 404, "unknown step '7'; allowed: 0"),
        ("/report", {"run": "second", "tag": "contributions/park", "step": "-1"}, 400, "step is a whole number"),
        ("/report", {"run": "second", "tag": "contributions/park", "step": "1e3"}, 400, "step is a whole number"),
        ("/report", {"run": "second", "tag": "contributions/park", "step": "9" * 5000}, 400, "step is a whole number"),
        ("/report", {"run": "second", "tag": "contributions/park"}, 400, "lacks 'step'"),
        ("/report", {"tag": "contributions/park", "step": "0"}, 400, "lacks 'run'"),
        ("/steps", {"run": "../../etc", "tag": "passwd"}, 404, "unknown run"),
        ("/steps", {"run": "<script>alert(1)</script>", "tag": "\x00"}, 404, "unknown run"),
    ],
)
def test_says_in_one_line_what_a_request_got_wrong(served, route, query, code, words):
    answer = _get(served, route, **query)
    assert answer[0] == code
    assert list(answer[1]) == ["error"]
    assert words in answer[1]["error"]
    assert "\n" not in answer[1]["error"]


@settings(max_examples=30)
@given(run=st.text(), tag=st.text(), step=st.text())
def test_no_request_is_an_error_of_the_server(served, run, tag, step):
    code, answer = _get(served, "/report", run=run, tag=tag, step=step)
    assert code in (400, 404)
    assert answer["error"]


def test_refuses_to_be_written_to(served):
    answer = served.post(_ROUTE + "/tags", data="x")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET"


def test_serves_its_own_files_and_no_others(served):
    kinds = {"/index.js": "text/javascript", "/server.js": "text/javascript", "/index.css": "text/css"}
    kinds |= {f"/{name}.js": "text/javascript" for name in SHARED}
    for path, kind in kinds.items():
        answer = served.get(_ROUTE + path)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(kind)
    assert served.get(_ROUTE + "/../plugin.py").status_code == 404
    assert served.get(_ROUTE + "/plugin.py").status_code == 404


def test_the_module_sets_text_only_as_text_and_loads_nothing_from_elsewhere(served):
    names = [f"{name}.js" for name in (*SHARED, "server", "index")]
    code = "".join(served.get(f"{_ROUTE}/{name}").text for name in (*names, "index.css"))
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "http://",
                 "https://", "url(", "@import", "import("):  # fmt: skip
        assert word not in code


def test_every_module_of_the_view_is_served_after_those_it_imports():
    from tl_nla.reports.tensorboard.plugin.names import STATIC

    entries = {"server", "index", "embedded"}
    assert {path.stem for path in STATIC.glob("*.js")} == set(SHARED) | entries
    for place, name in enumerate(SHARED):
        imported = re.findall(r'from "\./(\w+)\.js"', (STATIC / f"{name}.js").read_text())
        assert set(imported) <= set(SHARED[:place]), name


def test_an_empty_folder_has_no_runs(tmp_path):
    assert _get(_server(tmp_path), "/tags") == (200, {"runs": {}})


def test_says_when_a_summary_is_of_another_version_or_damaged(tmp_path):
    from tl_nla.reports.tensorboard.plugin import contribution_summary

    for name, content in (
        ("newer", b'{"schema": 3}'),
        ("empty", b'{"schema": 2}'),
        ("list", b"[]"),
        ("cut", b'{"schema": 1, "mod'),
        ("bytes", b"\xff"),
    ):
        summary = contribution_summary(name, reports.report())
        summary.value[0].tensor.string_val[0] = content
        with SummaryWriter(tmp_path) as writer:
            writer._get_file_writer().add_summary(summary, 0)
    server = _server(tmp_path)
    for name, words in (
        ("newer", "schema 3"),
        ("empty", "no data"),
        ("list", "schema None"),
        ("cut", "no JSON"),
        ("bytes", "no JSON"),
    ):
        code, answer = _get(server, "/report", run=".", tag=f"contributions/{name}", step=0)
        assert code == 422
        assert words in answer["error"]


def test_keeps_texts_that_break_other_formats(tmp_path):
    hostile = reports.report(tokens=reports.HOSTILE, explanation="".join(reports.HOSTILE))
    _write(tmp_path, **hostile)
    code, answer = _get(_server(tmp_path), "/report", run=".", tag="contributions/park", step=0)
    assert code == 200
    reports.assert_same(unpack(answer), hostile)


def test_a_summary_that_grows_is_read_again(tmp_path):
    from tl_nla.reports.tensorboard.plugin import write_contributions

    query = {"run": ".", "tag": "contributions/park"}
    with SummaryWriter(tmp_path) as writer:
        write_contributions(writer, "park", reports.report(), 0)
        writer.flush()
        server, multiplexer = _server_and_multiplexer(tmp_path)
        assert [point["step"] for point in _get(server, "/steps", **query)[1]["steps"]] == [0]
        write_contributions(writer, "park", reports.report(), 5)
        writer.flush()
        multiplexer.Reload()
        assert [point["step"] for point in _get(server, "/steps", **query)[1]["steps"]] == [0, 5]


def test_the_sample_that_tensorboard_keeps_holds_the_newest_step(tmp_path):
    _write(tmp_path, steps=range(12))
    query = {"run": ".", "tag": "contributions/park"}
    kept = [point["step"] for point in _get(_server(tmp_path, samples=5), "/steps", **query)[1]["steps"]]
    assert len(kept) == 5
    assert kept[-1] == 11
    assert len(_get(_server(tmp_path, samples=1000), "/steps", **query)[1]["steps"]) == 12


def test_tensorboard_finds_the_tab_by_its_entry_point():
    from tl_nla.reports.tensorboard.plugin.plugin import ContributionsPlugin

    assert [point.name for point in entry_points(group="tensorboard_plugins") if point.value.startswith("tl_nla.")] == [
        "tl_nla_contributions"
    ]
    assert ContributionsPlugin in default.get_dynamic_plugins()


def test_tensorboard_starts_without_torch_for_our_sake():
    code = "import sys, tl_nla.reports.tensorboard.plugin.plugin; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == "False"


def test_importing_the_writer_does_not_import_tensorboard():
    code = "import sys, tl_nla, tl_nla.reports.tensorboard.plugin; print('tensorboard' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == "False"
