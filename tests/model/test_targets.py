"""Loading a model installs nothing, and of a model that sees images it takes the text part."""

import subprocess
import sys

import pytest
import torch

from tests import families, tokenizers
from tl_nla.model.loading import load_causal_lm
from tl_nla.model.no_installs import nothing_installed
from tl_nla.model.reading import read
from tl_nla.model.targets import boot_target, load_target

IDS = torch.arange(3, 11)[None]
INSTALLS = [
    ["uv", "pip", "install", "torchvision", "-q"],
    [sys.executable, "-m", "pip", "install", "torchvision"],
    "pip3 install torchvision",
    ["conda", "install", "torchvision"],
]


@pytest.fixture
def commands(monkeypatch):
    """What would have been run; no torchvision is there, whatever the machine has."""
    started = []

    def refuse(*args, **settings):
        started.append(args)
        raise OSError("no command is run in this test")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    return started


@pytest.fixture(params=["gemma3_images", "gemma4_images"])
def folder(request, tmp_path):
    families.build(request.param).save_pretrained(tmp_path)
    tokenizers.make("words").save_pretrained(tmp_path)
    return tmp_path


def test_the_text_part_of_a_model_that_sees_images_is_loaded(folder, commands):
    target = load_target(folder)
    with torch.no_grad():
        expected = load_causal_lm(folder)(IDS).logits
        torch.testing.assert_close(target.model(IDS), expected, atol=1e-4, rtol=1e-4)
    assert len(read(target.model, IDS, ["blocks.1.mlp"], [-1])) == 1
    assert commands == []


@pytest.mark.filterwarnings("ignore:Hook alias:UserWarning")  # of TransformerLens 3.9, in the image tower
@pytest.mark.parametrize("family", ["gemma3_images", "llava"])
def test_wrapping_the_whole_model_installs_nothing(family, tmp_path, commands):
    model, tokenizer = families.build(family), tokenizers.make("words")
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
    target = boot_target(family, tmp_path, model, tokenizer)
    assert commands == []
    assert getattr(target.model, "processor", None) is None
    torch.testing.assert_close(target.model(IDS), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("command", INSTALLS, ids=str)
@pytest.mark.parametrize("name", ["check_call", "check_output", "call", "run"])
def test_commands_that_install_are_not_run(command, name, commands):
    with nothing_installed(), pytest.raises(RuntimeError, match="nothing is installed"):
        getattr(subprocess, name)(command)
    assert commands == []


def test_other_commands_run_as_ever():
    command = [sys.executable, "-c", "import sys; sys.stdout.write('pip')"]
    before = subprocess.run
    with nothing_installed():
        assert subprocess.check_output(command) == b"pip"  # noqa: S603 - our own words
    assert subprocess.run is before
