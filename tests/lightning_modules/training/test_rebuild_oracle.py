"""A diff oracle and the readers of its controls, trained on a model given as a folder."""

import dataclasses

import pytest
import torch

from lightning_modules.data.oracle_data import QUICK
from lightning_modules.training import rebuild_oracle
from lightning_modules.training.muon import MuonWithAdamW
from lightning_modules.training.refinement import RefineConfig
from tests import vocabularies, zoo
from tl_nla.benchmark.oracle_texts import arm_texts
from tl_nla.benchmark.results import read_results
from tl_nla.errors import InputError
from tl_nla.model.targets import load_target
from tl_nla.model.text import TextEncoder
from tl_nla.storyworld.documents import world_documents
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
            "empty", "mean", "probe", "own_run"} <= arms  # fmt: skip
    assert any(row.split == "heldout_heads" for row in results.rows)
    path = tmp_path / "diff.json"
    assert main(["diff", "Tom was happy", "--model", str(folder), "--oracle", str(saved), "--json", str(path)]) == 0
    assert "blocks.0.attn.head.0" in path.read_text()


@pytest.mark.parametrize(
    ("make", "context", "options", "message"),
    [
        ("llama2", 512, ["--injection-char", "ab"], "no token of its own in the prompt"),
        ("byte_bpe", 512, ["--injection-char", "e"], "labels may name"),
        ("metaspace_bpe", 256, [], "has a context of 256 tokens; its oracle's prompts have up to"),
    ],
)
def test_a_reader_that_cannot_be_made_is_refused_before_the_capture(
    make, context, options, message, tmp_path, monkeypatch, capsys
):
    from tl_nla.cli.main import main

    tokenizer = vocabularies.tokenizer(make)
    tokenizer.save_pretrained(tmp_path)
    zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=context).save_pretrained(tmp_path)
    monkeypatch.setattr(rebuild_oracle, "capture", lambda *given: pytest.fail("captured"))
    assert main(["evaluate", "heads", "--model", str(tmp_path), "--documents", "6", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_embedded_oracle_has_its_marker(capsys):
    from tl_nla.cli.main import main

    assert main(["evaluate", "heads", "--injection-char", "㈎"]) == 2
    assert "--injection-char is for models whose oracle is trained now" in capsys.readouterr().err


def test_the_marker_of_the_settings_is_the_oracles(folder, monkeypatch):
    stories = world_documents(4, 0)
    few = dataclasses.replace(
        QUICK, documents=2, skip_documents=0, held_documents=2, held_positions=1, encoder_documents=0, own_words=0,
        arms=(), long_steps=0, refine=RefineConfig(passes=0), injection_char="㈎",
    )  # fmt: skip
    monkeypatch.setattr(rebuild_oracle, "train_oracle", lambda *given: rebuild_oracle.Curve())
    oracle, *_ = rebuild_oracle.train_parts(load_target(str(folder)), folder, stories[:2], stories[2:], few, 0)
    assert oracle.reader.char == "㈎"


def test_an_interrupted_run_goes_on_with_the_parts_that_are_kept(folder, tmp_path, monkeypatch):
    target = load_target(str(folder))
    stories = world_documents(8, 0)
    few = dataclasses.replace(QUICK, documents=5, skip_documents=2, held_documents=3, held_positions=1)
    settings = target, folder, stories[:5], stories[5:], few, 0, tmp_path
    trained = []

    def train(arm, *given):
        trained.append(arm)
        if arm == "state":
            raise KeyboardInterrupt
        return train_arm(arm, *given)

    train_arm = rebuild_oracle.train_arm
    monkeypatch.setattr(rebuild_oracle, "train_arm", train)
    with pytest.raises(KeyboardInterrupt):
        rebuild_oracle.build_oracle(*settings)
    monkeypatch.setattr(rebuild_oracle, "train_arm", lambda arm, *given: trained.append(arm) or train_arm(arm, *given))
    _, rows = rebuild_oracle.build_oracle(*settings)
    assert trained == ["gold", "cat", "cat_and_explanation", "state", "state"]
    monkeypatch.setattr(rebuild_oracle, "train_arm", train_arm)
    _, whole = rebuild_oracle.build_oracle(*settings[:-1])
    for arm in ("explanation", "gold", "cat", "cat_and_explanation", "state", "cat_long"):
        torch.testing.assert_close(rows.errors[arm], whole.errors[arm], equal_nan=True)
    assert set(rows.curves) == set(whole.curves)
    told = "encoder/recall_at_3/sources_distant"
    torch.testing.assert_close(rows.counts[told], whole.counts[told], equal_nan=True)
    assert torch.equal(
        rows.counts[told][:, 1].nan_to_num(), whole.counts[told.replace("encoder", "cat")][:, 1].nan_to_num()
    )


def test_the_reconstructor_reads_what_the_reader_says_with_its_slots(folder, tmp_path, monkeypatch):
    stories, slots = world_documents(8, 0), []
    few = dataclasses.replace(
        QUICK, documents=5, skip_documents=2, held_documents=3, held_positions=1, arms=(), long_steps=0
    )
    read = rebuild_oracle.read_own_words
    monkeypatch.setattr(
        rebuild_oracle,
        "read_own_words",
        lambda oracle, *given: slots.append(oracle.reader.slots.count) or read(oracle, *given),
    )
    rebuild_oracle.build_oracle(load_target(str(folder)), folder, stories[:5], stories[5:], few, 0, tmp_path)
    assert slots == [6]
    parts = {"oracle", "encoder", "practice", "rehearsal", "own_words", "refinement"}
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == parts


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


def test_every_refinement_reads_texts_of_the_writes_it_is_taught(folder, tmp_path, monkeypatch):
    """The same rows for all arms, each with its own text; half of the oracle's are in its words, half are labels."""
    stories, seen, data = world_documents(8, 0), {}, []
    few = dataclasses.replace(
        QUICK, documents=5, skip_documents=2, held_documents=3, held_positions=1, encoder_documents=0, arms=("cat",)
    )
    capture = rebuild_oracle.capture
    monkeypatch.setattr(rebuild_oracle, "capture", lambda *given: data.append(capture(*given)) or data[0])
    monkeypatch.setattr(
        rebuild_oracle,
        "refine",
        lambda reader, texts, write, config, seed, kept, name: seen.update({name: (texts(), write)}),
    )
    target = load_target(str(folder))
    oracle, _ = rebuild_oracle.build_oracle(target, folder, stories[:5], stories[5:], few, 3)
    train = data[0].train
    rows = few.refine.drawn(len(train), 3)
    assert len(rows) == few.refine.rows < len(train)
    chosen = train.select(rows)
    said = oracle.explain(chosen.write[:4], chosen.before[:4], max_new_tokens=rebuild_oracle.MAX_NEW_TOKENS)
    own, written = seen["refinement"]
    assert own == [*said, *(chosen.text(row) for row in range(4, 8))]
    cat, same = seen["cat_refinement"]
    assert cat == arm_texts(
        "cat", chosen, TextEncoder(target.tokenizer, target.model), data[0].train_documents, 3, True
    )
    assert torch.equal(written, chosen.write)
    assert torch.equal(same, chosen.write)
    long, attentions = seen["cat_long_refinement"]
    assert len(long) == len(attentions) == sum(train.sites[site].endswith("attn") for site in train.site.tolist())


def test_scores_stand_with_refinement_and_without(folder, tmp_path):
    stories = world_documents(8, 0)
    few = dataclasses.replace(
        QUICK, documents=5, skip_documents=2, held_documents=3, held_positions=1, encoder_documents=0, arms=("cat",),
        long_steps=0, refine=RefineConfig(8, 1, 9, 4, 8, 0.05),
    )  # fmt: skip
    built, rows = rebuild_oracle.build_oracle(load_target(str(folder)), folder, stories[:5], stories[5:], few, 0)
    _, linear = rebuild_oracle.build_oracle(
        load_target(str(folder)), folder, stories[:5], stories[5:],
        dataclasses.replace(few, refine=RefineConfig(passes=0)), 0,
    )  # fmt: skip
    assert built.reconstructor.refinement is not None
    for arm in ("explanation", "gold", "shuffled", "cat"):
        torch.testing.assert_close(rows.errors[f"unrefined/{arm}"], linear.errors[arm])
        assert not torch.allclose(rows.errors[arm], linear.errors[arm])
    assert not [arm for arm in linear.errors if arm.startswith("unrefined")]
