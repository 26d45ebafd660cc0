"""``tl-nla doctor``: what is there is found, what is missing is named with a remedy."""

import importlib.metadata
import json

import pytest

import tl_nla
from tl_nla.benchmark.machine import look
from tl_nla.cli.main import main
from tl_nla.model.processor import processor_units


def states(findings):
    return {finding.name: finding.state for finding in findings}


def test_this_machine_has_what_is_needed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TL_NLA_SMOLLM2", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "machine.json"
    assert main(["doctor", "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "Everything that tl-nla needs is here." in shown
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["ready"] is True
    found = {row["name"]: row for row in content["findings"]}
    assert found["torch"]["found"] == importlib.metadata.version("torch")
    assert found["model smollm2"]["found"].startswith(str(tmp_path))
    assert found["TensorBoard tab"]["state"] == "ok"
    assert found["model tiny"]["state"] == "ok"


def test_what_is_missing_is_named(monkeypatch, capsys):
    real = importlib.metadata.version

    def version(name):
        if name in ("lightning", "peft"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    found = states(look())
    assert found["lightning"] == "missing"
    assert found["extra lora"] == "absent"
    assert found["TensorBoard tab"] == "absent"
    assert main(["doctor"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "pip install lightning" in shown
    assert shown.endswith("Missing: lightning.")


@pytest.mark.parametrize(
    ("flags", "units"),
    [("fpu avx2 avx512_bf16", ["avx2", "avx512_bf16"]), ("fpu amx_bf16 avx2", ["avx2", "amx_bf16"]), ("fpu", [])],
)
def test_units_of_the_processor(flags, units, tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(f"model name : x\nflags\t\t: {flags}\n")
    assert processor_units(file) == units
    assert processor_units(tmp_path / "none") == []


def test_an_editable_installation_that_is_older_than_the_code_is_told(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1" if name == "tl-nla" else real(name))
    own = next(finding for finding in look() if finding.name == "tl-nla")
    assert (own.state, own.found) == ("ok", f"{tl_nla.__version__} (installed as 0.0.1)")
    assert own.remedy == "pip install -e ."
