"""Precision and devices of a model, on the embedded one."""

import pytest
import torch

import tl_nla
from tl_nla.cli.main import main
from tl_nla.errors import InputError
from tl_nla.model.placement import Placement
from tl_nla.model.targets import load_target

TEXT = "Tom found a kite painted red. The kite was"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_comes_in_the_precision_asked_for(dtype):
    model = tl_nla.load("tiny", dtype=dtype)
    wanted = getattr(torch, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    assert model.cfg.dtype == wanted
    assert not any(parameter.requires_grad for parameter in model.parameters())
    reading = tl_nla.read(model, model.to_tokens(TEXT), ["blocks.2.hook_resid_post"])
    assert torch.isfinite(reading["blocks.2.hook_resid_post"].float()).all()


def test_by_default_the_configuration_decides():
    assert tl_nla.load("tiny").cfg.dtype == torch.float32


def test_a_map_places_the_layers():
    model = load_target("tiny", placement=Placement(device_map={"": "cpu"})).model
    plain = tl_nla.load("tiny")
    tokens = plain.to_tokens(TEXT)
    assert torch.equal(model(tokens), plain(tokens))
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dtype": "float8"}, "unknown precision 'float8'"),
        ({"device": "nowhere"}, "device is 'nowhere', which cannot be used here"),
        ({"device": "cpu", "device_map": "auto"}, "give one: the map places every layer"),
        ({"device_map": "somehow"}, "unknown device_map 'somehow'"),
    ],
)
def test_what_cannot_be_had_is_refused(settings, says):
    with pytest.raises(InputError) as refused:
        Placement(**settings)
    assert says in " ".join(str(refused.value).split())


@pytest.mark.parametrize(
    "command", [["verbalize", "--last", "1"], ["contributions", "--labels", "--no-skips"], ["check"]]
)
def test_commands_take_precision_and_device(command, capsys):
    name, *more = command
    given = [name, *([] if name == "check" else [TEXT]), *more, "--dtype", "bfloat16", "--device", "cpu"]
    assert main(given) in (0, 1 if name == "check" else 0)
    capsys.readouterr()
    assert main([name, *([] if name == "check" else [TEXT]), "--device", "nowhere"]) == 2
    error = capsys.readouterr().err
    assert "which cannot be used here" in error
    assert error.count("\n") == 1


@pytest.mark.gpu
def test_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    model = tl_nla.load("tiny", dtype="bfloat16", device="cuda")
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    assert tl_nla.check(model)
