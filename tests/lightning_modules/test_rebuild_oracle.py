"""A diff oracle and the readers of its controls, trained on a model given as a folder."""

import pytest
import torch

from lightning_modules.muon import MuonWithAdamW
from tests import zoo
from tl_nla.errors import InputError
from tl_nla.evaluation.results import read_results
from tl_nla.storyworld.tokenizer import save_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tokenizer = save_tokenizer(path)
    zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(path)
    return path


def test_the_command_trains_on_any_folder(folder, tmp_path):
    from tl_nla.cli.main import main

    saved, path = tmp_path / "oracle", tmp_path / "heads.json"
    common = ["--model", str(folder), "--documents", "6", "--steps", "2"]
    assert main(["evaluate", "heads", *common, "--json", str(path), "--oracle", str(saved)]) == 0
    results = read_results(path)
    arms = {row.arm for row in results.rows if row.metric == "fve"}
    assert {"explanation", "gold", "cat", "cat_and_explanation", "cat_and_shuffled", "state", "component", "shuffled",
            "empty", "mean", "probe"} <= arms  # fmt: skip
    assert any(row.split == "heldout_heads" for row in results.rows)
    path = tmp_path / "diff.json"
    assert main(["diff", "Tom was happy", "--model", str(folder), "--oracle", str(saved), "--json", str(path)]) == 0
    assert "blocks.0.attn.head.0" in path.read_text()


def test_muon_and_adamw_share_all_parameters():
    model = torch.nn.Sequential()
    model.add_module("embed", torch.nn.Embedding(5, 4))
    model.add_module("inner", torch.nn.Linear(4, 4))
    optimizer = MuonWithAdamW(model.named_parameters(), 0.1)
    owned = [value for group in optimizer.param_groups for value in group["params"]]
    assert {id(value) for value in owned} == {id(value) for value in model.parameters()}
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]
    before = [value.detach().clone() for value in model.parameters()]
    model(torch.tensor([1, 2])).square().sum().backward()
    state = optimizer.state_dict()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    optimizer.load_state_dict(state)
    with pytest.raises(InputError, match="no weight matrix"):
        MuonWithAdamW(torch.nn.LayerNorm(2).named_parameters())
