"""Whatever a command is given that it cannot use: one line, exit code 2, nothing written."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests import zoo
from tl_nla.cli.main import main
from tl_nla.storyworld.tiny import WEIGHTS

STORY = "Tom was happy"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with a model and a tokenizer that fit each other."""
    folder = tmp_path_factory.mktemp("models") / "good"
    folder.mkdir()
    zoo.save_target(folder)
    return folder


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Runs the command line in an empty folder and gives its one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TL_NLA_TRACEBACK", "1")  # what nobody foresaw is no pass

    def run(*arguments):
        before = sorted(path.name for path in tmp_path.rglob("*"))
        capsys.readouterr()  # what making the damaged model printed
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        *progress, said = error.splitlines()
        assert said.startswith("tl-nla: ")
        assert progress in ([], ["loading"])
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
        return error

    return run


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def save_other(folder, kind, **settings):
    config = getattr(transformers, f"{kind}Config")(vocab_size=600, **settings)
    head = {"T5": "T5ForConditionalGeneration", "CTRL": "CTRLLMHeadModel"}[kind]
    getattr(transformers, head)(config).save_pretrained(folder)


def remove(folder, *patterns):
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "no config": (lambda f: remove(f, "config.json"), "no config.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{no"), "not a valid JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[1]"), "Unrecognized model"),
    "unknown model type": (lambda f: edit_config(f, model_type="zorkmid"), "zorkmid"),
    "weights of another shape": (lambda f: edit_config(f, hidden_size=64), "other shapes than config.json says"),
    "no tokenizer": (lambda f: remove(f, "tokenizer*"), "no usable tokenizer in"),
    "tokenizer is cut": (lambda f: cut(f / "tokenizer.json", 500), "no usable tokenizer"),
    "tokenizer is empty": (lambda f: (f / "tokenizer.json").write_text("{}"), "no usable tokenizer"),
    "weights are cut": (lambda f: cut(f / "model.safetensors", 2000), "not a whole safetensors file"),
    "weights are nothing": (lambda f: cut(f / "model.safetensors", 0), "not a whole safetensors file"),
    "weights are a pickle": (
        lambda f: (remove(f, "model.safetensors"), torch.save({}, f / "pytorch_model.bin")), "never read"),
    "weights are missing": (lambda f: edit_weights(f, lambda w: dict(list(w.items())[1:])), "export is incomplete"),
    "weights are no numbers": (
        lambda f: edit_weights(f, lambda w: {k: v * float("nan") for k, v in w.items()}), "NaN or infinite values"),
    "model knows too few tokens": (
        lambda f: zoo.hf_model("llama", vocab_size=40).save_pretrained(f), "the model knows 40 tokens"),
    "no causal language model": (
        lambda f: save_other(f, "T5", d_model=32, num_layers=2, num_heads=4, d_kv=8, d_ff=48), "'t5' is no causal"),
    "unknown to TransformerLens": (
        lambda f: save_other(f, "CTRL", n_embd=32, dff=48, n_layer=2, n_head=4), "cannot wrap the CTRLLMHeadModel"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_models(damage, good, tmp_path_factory, refused):
    folder = tmp_path_factory.mktemp("damaged") / "model"
    shutil.copytree(good, folder)
    break_it, says = DAMAGES[damage]
    break_it(folder)
    assert says in refused("contributions", STORY, "--labels", "--model", folder)
    assert says in refused("diff", STORY, "--oracle", WEIGHTS / "oracle", "--model", folder)
    said = refused("demo", STORY, "--nla", WEIGHTS / "av", WEIGHTS / "ar", "--model", folder)
    assert says in said or "has d_model 32" in said  # a model of another width is refused before its text is read


@pytest.mark.parametrize(
    ("name", "says"),
    [("", "the name is empty"), (" ", "the name is empty"), ("./nowhere", "is no folder"), (__file__, "is no folder"),
     ("/", "no config.json"), ("no such/thing/at all", "could not be had from the hub"), ("\0", "from the hub")],
)  # fmt: skip
def test_names(name, says, refused):
    assert says in refused("contributions", STORY, "--model", name)
    assert says in refused("evaluate", "heads", "--model", name)
    if name != "/":
        assert says in refused("contributions", STORY, "--oracle", name)
        assert says in refused("diff", STORY, "--oracle", name)
        assert says in refused("demo", STORY, "--nla", name, WEIGHTS / "ar")
        assert says in refused("verbalize", STORY, "--nla", WEIGHTS / "av", name)


NO_NUMBER = ("nan", "inf", "x", "", "9" * 30, "1.5")
BROKEN = "\udcff"


@pytest.mark.parametrize(
    ("arguments", "option", "values"),
    [
        (["demo", STORY], "--last", (*NO_NUMBER, "0", "-1")),
        (["verbalize", STORY], "--last", (*NO_NUMBER, "0", "-1")),
        (["contributions", STORY], "--heads", (*NO_NUMBER, "-1")),
        (["diff", STORY], "--layer", (*NO_NUMBER, "-1", "4")),
        (["diff", STORY, "--layer", "1"], "--head", (*NO_NUMBER, "-1", "4")),
        (["diff", STORY], "--position", (*NO_NUMBER[:-2], "99", "-99")),
        (["steer", STORY, "--append", "x"], "--tokens", (*NO_NUMBER, "0", "-1", "600")),
        (["steer", STORY, "--append", "x"], "--strength", ("nan", "inf", "-inf", "x", "", "1e300")),
        (["bench"], "--runs", (*NO_NUMBER, "0", "-1")),
        (["evaluate", "contributions"], "--stories", (*NO_NUMBER, "0", "-1")),
        (["evaluate", "steganography"], "--seeds", (*NO_NUMBER, "0", "-1")),
        (["evaluate", "steering"], "--prompts", (*NO_NUMBER, "0", "-1")),
        (["evaluate", "faithfulness"], "--documents", (*NO_NUMBER, "0", "-1")),
        (["evaluate", "layers_matrix"], "--train-documents", (*NO_NUMBER, "0", "-1")),
        (["rebuild-tiny"], "--seeds", ("nan", "x", "")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_numbers(arguments, option, values, refused):
    for value in values:
        refused(*arguments, f"{option}={value}")


@pytest.mark.parametrize(
    "arguments",
    [["demo", ""], ["demo", BROKEN], ["verbalize", STORY, ""], ["verbalize", BROKEN], ["diff", ""], ["diff", BROKEN],
     ["steer", "", "--append", "x"], ["steer", STORY, "--append", BROKEN], ["steer", STORY, "--expect", BROKEN],
     ["steer", STORY, "--rewrite", "red"], ["steer", STORY, "--rewrite", ""], ["steer", STORY, "--append", ""],
     ["steer", STORY, "--rewrite", f"red->{BROKEN}"], ["steer", STORY, "--append", "㈎"],
     ["steer", BROKEN, "--append=x"], ["steer", STORY, "--append", "x" * 3000], ["contributions", ""],
     ["contributions", BROKEN],
     ["contributions", STORY, "--target", ""], ["contributions", STORY, "--target", BROKEN],
     ["contributions", STORY, "--against", "two words"], ["diff", STORY, "--span", ""],
     ["diff", STORY, "--span", "3-1"], ["demo", STORY * 200], ["contributions", STORY * 200], ["evaluate", ""],
     ["rebuild-tiny", "--parts", ""]],
    ids=lambda arguments: " ".join(arguments)[:30].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_texts(arguments, refused):
    refused(*arguments)


OUTPUTS = [
    (["demo", STORY], "--json"), (["demo", STORY], "--svg"), (["verbalize", STORY], "--json"),
    (["diff", STORY], "--json"),
    (["steer", STORY, "--append", "x"], "--json"), (["contributions", STORY], "--json"),
    (["contributions", STORY], "--svg"), (["bench"], "--json"), (["evaluate", "nla"], "--json"),
    (["evaluate", "steering"], "--save-rows"), (["evaluate", "heads"], "--figure"),
]  # fmt: skip
FOLDERS = [
    (["contributions", STORY], "--logdir"), (["contributions", STORY], "--figures"), (["rebuild-tiny"], "--out"),
    (["rebuild-tiny"], "--keep"), (["evaluate", "heads", "--model", "other"], "--oracle"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "option"), OUTPUTS + FOLDERS, ids=lambda value: str(value)[-24:])
def test_outputs_that_cannot_be_written_are_refused_before_the_work(arguments, option, refused, tmp_path, monkeypatch):
    for work in ("tl_nla.model.targets.load_target", "tl_nla.storyworld.tiny.load_tiny"):
        monkeypatch.setattr(work, lambda *given, **settings: pytest.fail("went to work"))
    file = tmp_path / "a file"
    file.write_text("kept")
    wrong = ["", " ", str(file / "below.json"), "no\0name"]
    wrong += [str(tmp_path), "/no/such/folder/x.json"] if (arguments, option) in OUTPUTS else [str(file)]
    for value in wrong:
        refused(*arguments, f"{option}={value}")
    assert file.read_text() == "kept"
