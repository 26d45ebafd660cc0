"""``tl-nla bench`` on shapes and its growth, with tiny models in their places."""

import json

import pytest

from tests import zoo
from tl_nla.benchmark import growth, real_size
from tl_nla.benchmark.bench import Case
from tl_nla.benchmark.shapes import BenchModel, bench_model
from tl_nla.cli.main import main


def test_every_shape_and_precision_has_a_table(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tl_nla.benchmark.peers.has_nnsight", lambda: False)
    monkeypatch.setattr("tl_nla.benchmark.real_size.compared", lambda case, rounds: {
        "case": case.name, "peer": case.peer, "whole": "", "ours_cpu_s": 1.0, "peer_cpu_s": 2.0, "ratio": 0.5,
    })  # fmt: skip

    def small(shape, dtype):
        plain = zoo.hf_model("llama")
        return bench_model(type(plain), plain.config, shape, dtype)

    monkeypatch.setattr("tl_nla.benchmark.shapes.shaped", small)
    file = tmp_path / "bench.json"
    command = ["bench", "--shape", "smollm2", "--dtype", "float32", "bfloat16", "--tokens", "128", "--runs", "1"]
    assert main([*command, "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "smollm2, bfloat16" in shown
    tables = json.loads(file.read_text())["tables"]
    assert [(table["model"], table["dtype"]) for table in tables] == [("smollm2", "float32"), ("smollm2", "bfloat16")]
    peers = [{row["peer"] for row in table["rows"]} for table in tables]
    assert peers[0] - peers[1] == {"decompose_resid, apply_ln_to_stack"}  # it rounds what it normalises

    monkeypatch.setattr("tl_nla.benchmark.real_size.compared", lambda case, rounds: pytest.fail("was there already"))
    assert main([*command, "--json", str(file)]) == 0


def test_an_interrupted_run_goes_on_where_it_was(monkeypatch, tmp_path, capsys):
    cases = [Case(f"states {n}", "generate", int, int, lambda one, other: True, "3 states") for n in range(3)]
    cases += [Case("bare", "pass", int, float, lambda one, other: False)]
    monkeypatch.setattr("tl_nla.benchmark.shapes.shaped", lambda shape, dtype: BenchModel(None, None, shape))
    monkeypatch.setattr(real_size, "reading_cases", lambda made, tokens: cases)
    for other in ("report_cases", "direct_cases"):
        monkeypatch.setattr(real_size, other, lambda *given: [])
    asked, real = [], real_size.compared

    def compared(case, rounds):
        asked.append(case.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(case, rounds)

    monkeypatch.setattr(real_size, "compared", compared)
    file = tmp_path / "bench.json"
    command = ["bench", "--shape", "smollm2", "--json", str(file)]
    assert main(command) == 130
    assert main(command) == 1  # two ways differ
    assert asked == ["states 0", "states 1", "states 1", "states 2", "bare"]
    told = real_size.added_up(json.loads(file.read_text())["tables"][0]["rows"])
    assert [(row["case"], row.get("pieces"), row.get("differ")) for row in told] == [
        ("bare", None, True), ("3 states", 3, None)]  # fmt: skip
    assert "different results" in capsys.readouterr().out


def test_growth_is_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr(growth, "STEPS", {"tokens": (6,)})
    monkeypatch.setattr(growth, "growth_rows", lambda rounds, tell: [
        {"varied": "tokens", "size": 6, "way": "report", "cpu_s": 0.1 * rounds, "peak_mb": 2.0}])  # fmt: skip
    assert main(["bench", "--growth", str(tmp_path / "g.svg"), "--json", str(tmp_path / "g.json"), "--runs", "2"]) == 0
    assert json.loads((tmp_path / "g.json").read_text())["rows"][0]["cpu_s"] == pytest.approx(0.2)
    assert (tmp_path / "g.svg").is_file()


def test_states_of_texts_are_told_by_the_models_own_pair(monkeypatch, capsys, tmp_path):
    told = {"explanations": 2.0, "error": 1.0, "deviation": 4.0}
    asked = []

    def compared(case, rounds):
        asked.append(case.name)
        row = {
            "case": case.name,
            "peer": case.peer,
            "whole": case.whole,
            "ours_cpu_s": 1.0,
            "peer_cpu_s": 2.0,
            "ratio": 0.5,
        }
        return {**row, "told": told} if case.told else row

    monkeypatch.setattr(real_size, "compared", compared)
    (tmp_path / "texts.txt").write_text("Tom found a red kite.\n\nLily saw the garden there.\n")
    command = ["bench", "--model", "tiny", "--work", "--states", "4", "--at-once", "2"]
    assert main([*command, "--texts", str(tmp_path / "texts.txt")]) == 0
    assert asked[-2:] == ["states 1 to 2 put into words", "states 3 to 4 put into words"]
    assert "4 states put into words: 2.0 a processor second, FVE 0.750" in capsys.readouterr().out
    assert main(["bench", "--texts", "any.txt", "--model", "tiny"]) == 2
    assert "--texts belongs to --work" in capsys.readouterr().err
