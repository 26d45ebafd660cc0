"""Folders and repositories: listed first, and only what is needed comes down."""

import json
import shutil

import pytest
import torch

from tests.nla.formats.hub import Hub
from tl_nla.errors import InputError
from tl_nla.nla import NLA
from tl_nla.nla.activation_oracle import ActivationOracle
from tl_nla.nla.formats.convert import to_safetensors
from tl_nla.nla.formats.listing import Listing, pick
from tl_nla.nla.formats.testing import write_activation_oracle, write_easynla, write_kitft, write_nanonla

pytest.importorskip("peft")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    return Hub(tmp_path / "cache").install(monkeypatch)


def test_official_pairs_by_one_name(hub, tmp_path):
    written = write_kitft(tmp_path / "pair")
    hub.repositories |= {"them/nla-av": written.folder / "av", "them/nla-ar": written.folder / "ar"}
    (written.folder / "av" / "old").mkdir()
    (written.folder / "av" / "old" / "model.safetensors").write_bytes(b"large")
    nla = NLA.from_pretrained("them/nla-av")
    expected = NLA.from_pretrained(written.folder)
    torch.testing.assert_close(nla.reconstruct(["a"]), expected.reconstruct(["a"]))
    assert nla.provenance["verbalizer"] == ["them/nla-av"]
    assert not [name for name in hub.downloaded if "/old/" in name]


def test_only_the_chosen_checkpoint_comes_down(hub, tmp_path):
    written = write_easynla(tmp_path / "pair", "merged_warm_start")
    hub.repositories["them/rl"] = written.folder
    NLA.from_pretrained("them/rl", choice="800")
    steps = {name.split("/")[3] for name in hub.downloaded if "av_rl_adapters" in name}
    assert steps == {"iter_000800"}


def test_bases_on_the_hub_bring_no_sub_folders(hub, tmp_path):
    written = write_activation_oracle(tmp_path / "ao")
    (written.base / "other").mkdir()
    shutil.copy(written.base / "model.safetensors", written.base / "other")
    hub.repositories |= {"them/oracle": written.folder, "them/base": written.base}
    settings = written.folder / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": "them/base"}))
    oracle = ActivationOracle.from_pretrained("them/oracle")
    assert oracle.base == "them/base"
    assert not [name for name in hub.downloaded if "/other/" in name]


def test_penalties_stand_on_the_repository_beside(hub, tmp_path):
    written = write_nanonla(tmp_path / "pair", "rl_lora")
    for end in ("av", "ar", "rl-lora"):
        hub.repositories[f"them/nanonla-tiny-{end}"] = written.folder.with_name(f"nanonla-tiny-{end}")
    nla = NLA.from_pretrained("them/nanonla-tiny-rl-lora", choice="p0.0")
    assert nla.provenance["verbalizer"] == ["them/nanonla-tiny-av", "them/nanonla-tiny-rl-lora/p0.0"]
    assert not [name for name in hub.downloaded if "p0.01" in name]


def test_repositories_that_are_not_there(hub):
    for load in (NLA.from_pretrained, ActivationOracle.from_pretrained):
        with pytest.raises(
            InputError, match=r"'them/nothing' is no local folder and could not be had from the hub"
        ) as told:
            load("them/nothing")
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["", "./nowhere", "/nowhere"])
def test_names_that_are_no_folder(name):
    with pytest.raises(InputError, match=r"empty|no folder"):
        NLA.from_pretrained(name)


def test_numbers_are_sorted_as_numbers(tmp_path):
    for step in (100, 20, 3):
        (tmp_path / f"step{step}").mkdir()
        (tmp_path / f"step{step}" / "x.json").write_text("{}")
    listing = Listing.of(tmp_path)
    assert listing.folders == ("step3", "step20", "step100")
    assert pick(listing, list(listing.folders), None) == "step100"
    assert pick(listing, list(listing.folders), "20") == "step20"
    assert pick(listing, list(listing.folders), "step3") == "step3"


def test_an_unknown_folder_says_what_is_there(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(InputError, match=r"of no known family \(it holds readme.txt\)"):
        NLA.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "match"),
    [("best_av.pt", "RiverRider"), ("linear_head.pt", "Solshine"), ("value_head.pt", "to_safetensors")],
)
def test_known_layouts_that_are_not_read(tmp_path, name, match):
    (tmp_path / "adapter_v1").mkdir()
    (tmp_path / "adapter_v1" / name).write_bytes(b"")
    with pytest.raises(InputError, match=match):
        NLA.from_pretrained(tmp_path)


def test_pickled_heads_are_converted_on_request_only(tmp_path):
    path = tmp_path / "value_head.pt"
    torch.save({"weight": torch.eye(3)}, path)
    new = to_safetensors(path)
    from safetensors.torch import load_file

    assert torch.equal(load_file(new)["weight"], torch.eye(3))
    with pytest.raises(InputError, match="is there already"):
        to_safetensors(path)
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(Listing("", ()), tmp_path / "code.pt")
    for name in ("list.pt", "code.pt", "missing.pt"):
        with pytest.raises(InputError, match=r"no tensors|cannot be read as tensors"):
            to_safetensors(tmp_path / name)
