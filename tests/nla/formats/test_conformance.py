"""The checks of real folders: what is right passes, what is damaged does not."""

import json

import pytest
import torch

from tl_nla.cli.main import main
from tl_nla.model.reading import read
from tl_nla.model.targets import load_target
from tl_nla.model.text import TextEncoder
from tl_nla.nla import NLA, InjectionConfig
from tl_nla.nla.activation_oracle import ActivationOracle
from tl_nla.nla.answers import AnswerRule
from tl_nla.nla.formats.testing import (
    best_layer,
    check_oracle,
    check_pair,
    score_layers,
    write_activation_oracle,
    write_easynla,
    write_kitft,
    write_nanonla,
    write_oracle_lens,
    write_transluce,
)
from tl_nla.nla.formats.testing.layers import PASSAGES
from tl_nla.nla.injection import Injection

pytest.importorskip("peft")
WRITERS = {
    "kitft_1": lambda folder: write_kitft(folder, schema=1),
    "kitft_gemma": lambda folder: write_kitft(folder, "gemma3"),
    "easynla": write_easynla,
    "stacked": lambda folder: write_easynla(folder, "stacked"),
    "prefix_ordered": lambda folder: write_easynla(folder, "prefix_ordered"),
    "nanonla": write_nanonla,
}
ORACLES = {
    "one": write_activation_oracle,
    "several": lambda folder: write_activation_oracle(folder, "several"),
    "lens": write_oracle_lens,
    "transluce": write_transluce,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_tiny_pair_is_as_described(tmp_path, name, dtype):
    rows = check_pair(NLA.from_pretrained(WRITERS[name](tmp_path / "pair").folder, dtype=dtype))
    assert len(rows) == 9
    assert not [row for row in rows if not row.passed]


@pytest.mark.parametrize("name", ORACLES)
def test_every_tiny_oracle_is_as_described(tmp_path, name):
    rows = check_oracle(ActivationOracle.from_pretrained(ORACLES[name](tmp_path / "oracle").folder))
    assert not [row for row in rows if not row.passed]


def failed(nla):
    return {row.what for row in check_pair(nla) if not row.passed}


@pytest.fixture
def nla(tmp_path):
    return NLA.from_pretrained(write_kitft(tmp_path / "pair").folder)


def test_wrong_prompts_and_markers_are_found(nla):
    prompt = nla.verbalizer.prompt
    prompt.ids.insert(0, 1)  # a second begin token
    assert {"prompt", "marker"} <= failed(nla)


def test_an_injection_that_does_nothing_is_found(nla):
    class Nothing(Injection):
        def forward(self, acts):
            return torch.zeros_like(super().forward(acts))

    nla.verbalizer.injection = Nothing(InjectionConfig("constant", 3.0), 32)
    assert "the vector matters" in failed(nla)


def test_pooling_at_another_token_is_found(nla):
    nla.reconstructor.last_states = lambda states, mask: states[:, 0]
    assert {"pooling", "the words matter"} <= failed(nla)


def test_other_faults_are_found(nla):
    nla.mean = torch.full((32,), torch.nan)
    nla.layer = 3
    nla.verbalizer.answers = AnswerRule("lines", 1)
    assert failed(nla) == {"training mean", "layer", "extraction"}


def test_an_adapter_that_changes_nothing_is_found(tmp_path):
    oracle = ActivationOracle.from_pretrained(write_activation_oracle(tmp_path / "oracle").folder)
    with torch.no_grad():
        for name, parameter in oracle.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    assert {row.what for row in check_oracle(oracle) if not row.passed} == {"the adapter matters"}


class Memory:
    """Says the number of the nearest state that it knows of one layer, and gives that state back."""

    def __init__(self, model, tokenizer, layer, claimed):
        point, encoder, parts = f"blocks.{layer}.hook_resid_post", TextEncoder(tokenizer, model), []
        for text in PASSAGES:
            parts.append(read(model, torch.tensor([encoder(text).ids]), [point])[point])
        self.known, self.layer, self.d_model = torch.cat(parts), claimed, int(model.cfg.d_model)

    def generate(self, states):
        from types import SimpleNamespace

        numbers = torch.cdist(states, self.known).argmin(1)
        return SimpleNamespace(texts=[str(int(number)) for number in numbers],
                               extracted=torch.ones(len(states), dtype=torch.bool))  # fmt: skip

    def reconstruct(self, texts):
        return self.known[[int(text) for text in texts]]


@pytest.mark.parametrize("claimed", [1, 2])
def test_the_layer_that_a_pair_was_made_for_is_found(tmp_path, claimed):
    target = load_target(write_kitft(tmp_path / "pair").base)
    scores = score_layers(Memory(target.model, target.tokenizer, 1, claimed), target.model, target.tokenizer)
    assert [score.layer for score in scores] == [claimed - 1, claimed, claimed + 1]
    assert best_layer(scores) == 1
    one = next(score for score in scores if score.layer == 1)
    assert one.fve == pytest.approx(1, abs=1e-6)
    assert one.rows == 48


def test_command_line(tmp_path, capsys):
    written = write_kitft(tmp_path / "pair")
    report = tmp_path / "report.json"
    assert main(["check", "--nla", str(written.folder), "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    assert content["passed"]
    assert content["provenance"]["family"] == "kitft"
    assert {row["what"] for row in content["rows"]} >= {"prompt", "marker", "injection", "layer", "pooling"}
    with_target = ["check", "--rows", "4", "--nla", *(str(written.folder / part) for part in ("av", "ar")), "--model",
                   str(written.base), "--json", str(report)]  # fmt: skip
    code = main(with_target)
    content = json.loads(report.read_text())
    assert [row["layer"] for row in content["layers"]] == [0, 1, 2]
    best = max(content["layers"], key=lambda row: row["fve"])["layer"]
    assert code == (0 if best == 1 else 1)
    assert ("Warning: layer" in capsys.readouterr().out) == (best != 1)


def test_command_line_on_oracles_and_nothing(tmp_path, capsys):
    assert main(["check", "--nla", str(write_activation_oracle(tmp_path / "oracle").folder)]) == 0
    assert "the adapter matters" in capsys.readouterr().out
    assert main(["check", "--nla", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
