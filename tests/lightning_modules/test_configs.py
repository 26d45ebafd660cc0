"""Every packaged YAML file is executed, on few rows and for two steps, through the command line."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests import zoo
from tl_nla.cli.main import main
from tl_nla.cli.training import configs_folder, run_cli
from tl_nla.data.shards import Shard, Texts, finish_capture, write_shard
from tl_nla.model.loading import load_tokenizer
from tl_nla.nla import NLA
from tl_nla.nla.adapted_files import load_adapted
from tl_nla.oracle import DiffOracle
from tl_nla.storyworld.tiny import WEIGHTS

CONFIGS = sorted(path.name for path in configs_folder().glob("*.yaml"))
CAPTURE = ["predict", "-c", "tiny_capture.yaml", "--data.init_args.documents", "24",
           "--data.init_args.documents_per_shard", "8", "--trainer.accelerator", "cpu",
           "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]  # fmt: skip
SMALL = ["--trainer.max_steps", "2", "--data.init_args.corpus.documents", "24",
         "--data.init_args.serving.batch_size", "4",
         "--trainer.limit_val_batches", "1", "--trainer.enable_progress_bar", "false",
         "--trainer.enable_model_summary", "false", "--trainer.precision", "32-true",
         "--trainer.accelerator", "cpu"]  # fmt: skip


def often(name):
    """The packaged file with a checkpoint at every step, as a file of the user's."""
    content = yaml.safe_load((configs_folder() / name).read_text())
    for callback in content["trainer"]["callbacks"]:
        if callback["class_path"].endswith("ModelCheckpoint"):
            callback["init_args"]["every_n_train_steps"] = 1
    Path(name).write_text(yaml.safe_dump(content))
    return name


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentences = [
        f"Number {n} is a long sentence about nothing at all, with the words {n * 7} in it." for n in range(60)
    ]
    (tmp_path / "text.txt").write_text("\n\n".join(sentences))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What a packaged file leaves in ``runs``: some are run for themselves, and for others that go on from them."""
    known = {}

    def of(name):
        if name not in known:
            known[name] = tmp_path_factory.mktemp("finished")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(known[name])
                arguments = CAPTURE if name == "tiny_capture.yaml" else ["fit", "-c", often(name), *small(name)]
                assert main(arguments) == 0
        return known[name] / "runs"

    return of


def save_model(family, folder):
    tokenizer = load_tokenizer(WEIGHTS / "target")
    zoo.hf_model(family, vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def substitutes(name, folder, finished):
    """Tiny random models in the place of those that cannot be downloaded."""
    if name == "gpt2.yaml":
        save_model("gpt2", folder / "gpt2")
        return ["--model.init_args.model", str(folder / "gpt2"), "--data.init_args.model", str(folder / "gpt2"),
                "--model.init_args.layer", "1", "--data.init_args.site", "blocks.1.hook_resid_post"]  # fmt: skip
    if name == "llama_8b_lora.yaml":
        save_model("llama", folder / "llama")
        from tl_nla.nla.fresh import fresh_nla

        fresh_nla(folder / "llama", 1, "constant").save_pretrained(folder / "pair")
        return ["--model.init_args.model", str(folder / "pair"), "--data.init_args.model", str(folder / "llama"),
                "--data.init_args.site", "blocks.1.hook_resid_post", "--data.init_args.corpus.source", "text.txt",
                "--data.init_args.placement.device", "cpu",
                "--model.init_args.rollouts.max_new_tokens", "8"]  # fmt: skip
    if name == "smollm2_nla_reconstructor.yaml":
        return small_pair(folder, "gpt2")
    if name == "smollm2_nla_verbalizer.yaml":
        return small_pair(folder, "gemma3")
    if name == "smollm2_nla_training.yaml":
        return [*small_pair(folder, "llama"), "--model.init_args.rollouts.max_new_tokens", "8"]
    if name in ("tiny_diff_nla.yaml", "tiny_diff_sources.yaml"):
        shutil.copytree(finished("tiny_diff_oracle.yaml"), "runs")
    if name == "tiny_diff_refinement.yaml":
        DiffOracle.from_pretrained(WEIGHTS / "oracle").save_pretrained("runs/tiny_diff_nla/oracle")
    if name == "captured_nla_training.yaml":
        shutil.copytree(finished("tiny_capture.yaml"), "runs")
    if name.endswith("nla_training.yaml"):
        return ["--model.init_args.rollouts.max_new_tokens", "8"]
    return []


def small_pair(folder, family):
    """The recipe of SmolLM2 on a tiny model of another shape: model, layer and text are all that changes."""
    save_model(family, folder / family)
    model = str(folder / family)
    return ["--model.init_args.nla.init_args.model", model, "--data.init_args.model", model,
            "--model.init_args.nla.init_args.pair", "{layer: 1, slots: 3}",
            "--data.init_args.site", "blocks.1.hook_resid_post", "--data.init_args.corpus.source", "text.txt",
            "--data.init_args.corpus.heldout", "0.2"]  # fmt: skip


def test_there_are_configs():
    assert {"tiny_reconstructor.yaml", "tiny_verbalizer.yaml", "tiny_nla_training.yaml"} <= set(CONFIGS)


def small(name):
    """A capture decides itself how many rows there are; labels of writes take longest."""
    if name.startswith("captured"):
        return [*SMALL[:2], "--data.init_args.batch_size", "4", *SMALL[6:]]
    return [*SMALL, "--data.init_args.corpus.documents", "8"] if name.startswith("tiny_diff") else SMALL


@pytest.mark.parametrize("name", sorted({*CONFIGS} - {"tiny_capture.yaml"}))
def test_runs(name, folder, finished):
    if name in ("tiny_diff_oracle.yaml", "tiny_reconstructor.yaml"):
        shutil.copytree(finished(name), "runs")
    else:
        assert main(["fit", "-c", often(name), *small(name), *substitutes(name, folder, finished)]) == 0
    checkpoints = sorted(Path("runs").rglob("*.ckpt"))
    assert checkpoints
    loaded = torch.load(checkpoints[-1], weights_only=True)
    names = {key.split(".")[0] for key in loaded["state_dict"]}
    assert names <= {"verbalizer", "reconstructor", "reader", "encoder"}, "only what was trained is in a checkpoint"
    for oracle in Path("runs").rglob("oracle.yaml"):
        assert DiffOracle.from_pretrained(oracle.parent).strength is not None
    for av in Path("runs").rglob("av"):
        assert isinstance(NLA.from_pretrained(av, av.parent / "ar"), NLA)
    for saved in Path("runs").rglob("adapters.json"):
        assert load_adapted(str(saved.parent)).mean is not None


def test_captures(finished):
    folder = finished("tiny_capture.yaml") / "tiny_capture"
    assert sorted(path.name for path in folder.glob("shard-*")) == [
        f"shard-{number:06d}.safetensors" for number in range(3)
    ]
    assert (folder / "index.json").is_file()


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.filterwarnings("ignore:.*no last checkpoint available")
def test_last_goes_on_where_the_run_was_cut(folder):
    for number in range(3):
        acts = torch.randn(12, 128, generator=torch.Generator().manual_seed(number))
        texts = [Texts.pack(["she has the key"] * 12) for _ in range(2)]
        write_shard(folder, number, Shard(acts, *texts, torch.arange(12), torch.arange(1, 13), 8))
    finish_capture(folder, 3)

    def weights(name, *steps):
        content = yaml.safe_load((configs_folder() / "captured_nla_training.yaml").read_text())
        content["data"]["init_args"] = {"folder": ".", "batch_size": 4}
        for callback in content["trainer"]["callbacks"]:
            if callback["class_path"].endswith("ModelCheckpoint"):
                callback["init_args"] |= {"every_n_train_steps": 1, "dirpath": name}
        Path("config.yaml").write_text(yaml.safe_dump(content))
        for step in steps:
            arguments = [*small("captured"), "--model.init_args.rollouts.max_new_tokens", "8", "--ckpt_path", "last"]
            assert main(["fit", "-c", "config.yaml", *arguments, "--trainer.max_steps", str(step)]) == 0
        return torch.load(f"{name}/last.ckpt", weights_only=True)

    whole, cut = weights("whole", 3), weights("cut", 2, 3)
    assert whole["global_step"] == cut["global_step"] == 3
    assert all(torch.equal(value, cut["state_dict"][key]) for key, value in whole["state_dict"].items())


def test_goes_on_from_a_saved_pair(folder, finished):
    shutil.copytree(finished("tiny_reconstructor.yaml"), "runs")
    before = NLA.from_pretrained("runs/tiny_nla/av", "runs/tiny_nla/ar").reconstructor.head.weight
    cli = run_cli(["fit", "-c", str(configs_folder() / "tiny_verbalizer.yaml"), *SMALL,
                   "--model.init_args.model", "runs/tiny_nla"])  # fmt: skip
    assert torch.equal(cli.model.nla.reconstructor.head.weight.detach(), before.detach())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-c", "nothing.yaml"], "nothing.yaml"),
        (["-c", "tiny_reconstructor.yaml", "--model.init_args.layers", "3"], "layers"),
        (["-c", "tiny_reconstructor.yaml", "--trainer.max_steps", "many"], "max_steps"),
        (["-c", "tiny_reconstructor.yaml", "--data.init_args.corpus.source", "missing.txt"], "missing.txt"),
    ],
)
def test_bad_configuration_is_one_line(arguments, says, folder, capsys):
    assert main(["fit", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tl-nla: ")
    assert error.count("\n") == 1
    assert says in error
    assert not Path("runs").exists()
