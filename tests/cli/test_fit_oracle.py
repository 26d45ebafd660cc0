"""``tl-nla fit-oracle``: an oracle trained on any folder, stage by stage; what was interrupted goes on."""

import json

import pytest

from lightning_modules.training import oracle_commands, oracle_recipe
from tests import vocabularies, zoo
from tests.lightning_modules.quick import quick
from tests.read_only import read_only_folder  # noqa: F401 (a fixture)
from tl_nla.cli import fit_oracle
from tl_nla.cli.fit_oracle import UNUSABLE, complain_of, told
from tl_nla.cli.main import INTERRUPTED, main
from tl_nla.oracle import DiffOracle

STAGES = ["capture", "verbalizer", "reconstructor", "own_words", "refinement"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    zoo.save_target(path)
    return path


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    """The command's own budget takes minutes."""
    monkeypatch.setattr(oracle_commands, "SMALL", quick(sources=None))


def test_an_interrupted_command_goes_on_and_saves_the_oracle(folder, tmp_path, monkeypatch, capsys):
    out, path = tmp_path / "oracle", tmp_path / "fit.json"
    command = ["fit-oracle", "--model", str(folder), "--documents", "6", "--steps", "2", "--out", str(out), "--method",
               "trained"]  # fmt: skip
    spec = oracle_recipe.own_words_spec

    def cut(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(oracle_recipe, "own_words_spec", cut)
    assert main(command) == INTERRUPTED
    assert not out.exists()
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [f"stage {name}" for name in STAGES[:4]]
    monkeypatch.setattr(oracle_recipe, "own_words_spec", spec)
    assert main([*command, "--json", str(path)]) == UNUSABLE  # two steps teach it nothing, and it is saved all the same
    said, warned = capsys.readouterr()
    assert "WARNING: do not use this oracle: its explanations tell nothing of a write" in warned
    said = said.splitlines()
    assert said[:5] == ["stage capture", "stage verbalizer: found", "stage reconstructor: found", "stage own_words",
                        "stage refinement"]  # fmt: skip
    kept = {file.name for file in (tmp_path / "oracle.stages").iterdir()}
    assert kept == {f"{name}.safetensors" for name in STAGES[1:]} | {"writes"}
    found = json.loads(path.read_text())
    assert set(found["fve"]) == {"head", "attn", "mlp", "block", "span"}
    assert found["complaints"]
    assert found["stages"] == str(tmp_path / "oracle.stages")
    assert DiffOracle.from_pretrained(out).reconstructor.refinement is not None
    assert main(["diff", "Tom was happy", "--model", str(folder), "--oracle", str(out)]) == 0


def test_stages_of_other_settings_are_refused(folder, tmp_path, capsys):
    command = ["fit-oracle", "--model", str(folder), "--documents", "6", "--out", str(tmp_path / "oracle"), "--keep",
               str(tmp_path / "kept"), "--method", "trained"]  # fmt: skip
    assert main([*command, "--steps", "1"]) == UNUSABLE
    assert main([*command, "--steps", "2"]) == 2
    assert "was trained with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "context", "options", "message"),
    [
        ("llama2", 512, ["--injection-char", "ab"], "no token of its own in the prompt"),
        ("byte_bpe", 512, ["--injection-char", "e"], "labels may name"),
        ("metaspace_bpe", 256, [], "has a context of 256 tokens. Its oracle's prompts have up to"),
    ],
)
def test_a_verbalizer_that_cannot_be_made_is_refused_before_the_capture(
    make, context, options, message, tmp_path, monkeypatch, capsys
):
    tokenizer = vocabularies.tokenizer(make)
    tokenizer.save_pretrained(tmp_path / "model")
    model = zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=context)
    model.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(oracle_recipe, "capture", lambda *given: pytest.fail("captured"))
    for command in (["evaluate", "heads"], ["fit-oracle", "--method", "trained", "--out", str(tmp_path / "oracle")]):
        assert main([*command, "--model", str(tmp_path / "model"), "--documents", "6", *options]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--keep"])
def test_folders_that_cannot_be_written_are_refused_at_once(option, read_only_folder, tmp_path, capsys):  # noqa: F811
    folders = {"--out": str(tmp_path / "oracle"), option: str(read_only_folder / "new")}
    assert main(["fit-oracle", *(part for pair in folders.items() for part in pair)]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_a_folder_of_something_else_is_not_replaced(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    monkeypatch.setattr(oracle_recipe, "capture", lambda *given: pytest.fail("captured"))
    assert main(["fit-oracle", "--out", str(tmp_path / "mine")]) == 2
    assert "mine" in capsys.readouterr().err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_numbers_below_one_are_refused(tmp_path, capsys):
    assert main(["fit-oracle", "--out", str(tmp_path / "oracle"), "--steps", "0"]) == 2
    assert "--steps" in capsys.readouterr().err


def test_each_stage_has_one_line():
    shown, lines = [], []
    tell = told(shown.append, lines.append)
    for said in (("capture", 0, 0), ("verbalizer", 0, 0), ("verbalizer", 1, 4), ("verbalizer", 4, 4), ("cat", 4, 4)):
        tell(*said)
    assert lines == ["stage capture", "stage verbalizer", "stage cat: found"]
    assert shown == ["capture", "verbalizer", "verbalizer: step 1 of 4 (25%)",
                     "verbalizer: step 4 of 4 (100%)", "cat: step 4 of 4 (100%)"]  # fmt: skip


def test_what_is_wrong_with_an_oracle_is_said_and_decides_the_exit_code(capsys):
    assert complain_of([]) == 0
    assert capsys.readouterr().err == ""
    assert complain_of(["it says one sentence"]) == UNUSABLE
    said = capsys.readouterr().err
    assert "it says one sentence" in said
    assert "--steps" in said


def test_the_time_left_is_told(monkeypatch):
    shown, clock = [], [0.0]
    monkeypatch.setattr(fit_oracle.time, "monotonic", lambda: clock[0])
    tell = fit_oracle.told(shown.append)
    for name, done, seconds in (("capture", 0, 0), ("capture", 10, 20), ("capture", 0, 5), ("capture", 90, 90)):
        clock[0] += seconds
        tell(name, done, 100)
    assert shown == ["capture: step 0 of 100 (0%)", "capture: step 10 of 100 (10%), 0:03:00 left",
                     "capture: step 0 of 100 (0%)", "capture: step 90 of 100 (90%), 0:00:10 left"]  # fmt: skip


def test_the_memory_of_every_stage_is_told_before_anything_is_loaded(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tl_nla.model.loading.load_causal_lm", None)
    file = tmp_path / "estimate.json"
    assert main(["fit-oracle", "--estimate", "128", "--documents", "70", "--json", str(file)]) == 0
    assert "GB at the fullest moment" in capsys.readouterr().out
    found = json.loads(file.read_text())
    stages = found["stages"]
    assert list(stages) == ["capture", "verbalizer", "reconstructor"]
    assert found["total"] == max(stage["total"] + stage["beside"] for stage in stages.values())
    # Target, rows of 100 documents, and the part that waits.
    rows = 2 * 100 * 2 * 4 * (4 + 3) * 128 * 4
    assert stages["verbalizer"]["beside"] == stages["capture"]["weights"] + rows + stages["reconstructor"]["weights"]
    assert stages["verbalizer"]["optimiser"] < 2 * stages["verbalizer"]["gradients"]  # Muon has one number, not two


def test_a_training_needs_a_folder(capsys):
    assert main(["fit-oracle"]) == 2
    assert "fit-oracle needs --out DIR" in capsys.readouterr().err


def test_words_are_fitted_by_default_and_rebuild_held_out_writes(folder, tmp_path, capsys):
    out, path = tmp_path / "oracle", tmp_path / "fit.json"
    command = ["fit-oracle", "--model", str(folder), "--documents", "40", "--out", str(out), "--json", str(path)]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["stage capture", "stage words"]
    found = json.loads(path.read_text())
    assert found["complaints"] == []
    assert found["fve"]["head"] > 0.9
    assert min(found["fve"][kind] for kind in ("attn", "mlp", "block")) > 0.5
    assert main(["diff", "Tom was happy", "--model", str(folder), "--oracle", str(out)]) == 0


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_the_same_recipe_runs_on_folders_of_other_shapes(family, tmp_path, capsys):
    zoo.save_target(tmp_path / "model", family)
    out, path = tmp_path / "oracle", tmp_path / "fit.json"
    command = [
        "fit-oracle",
        "--method",
        "words",
        "--model",
        str(tmp_path / "model"),
        "--documents",
        "12",
        "--out",
        str(out),
    ]
    assert main([*command, "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["complaints"] == []
    assert found["fve"]["head"] > 0.8
    assert main(["diff", "Tom was happy", "--model", str(tmp_path / "model"), "--oracle", str(out)]) == 0
    assert "head" in capsys.readouterr().out
