import pytest
import torch
import yaml

from tl_nla.cli.training import run_cli
from tl_nla.explainers import Moment, as_explainer
from tl_nla.explainers.sentence import LONGEST, last_sentence

RUN = {
    "seed_everything": 0,
    "model": {
        "class_path": "lightning_modules.ReconstructorWarmStart",
        "init_args": {"model": "tiny", "layer": 2, "injection": "affine"},
    },
    "data": {
        "class_path": "lightning_modules.ActivationDataModule",
        "init_args": {"model": "tiny", "corpus": {"source": "text.txt", "documents": 24},
                      "words": {"explainer": "sentence"}},
    },
    "trainer": {
        "accelerator": "cpu", "max_steps": 1, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ""),
        (" \n\n", ""),
        ("Tom went", "Tom went"),
        ("Tom went home.", "Tom went home."),
        ("Tom went home. He", "He"),
        ('"Go!" she said. "Now?" Tom  asked', "Tom asked"),
        ("It cost 3.50 in all", "It cost 3.50 in all"),
        ("A title\n\nThe first line\nand the next", "The first line and the next"),
        ("去了。他说", "他说"),
        ("去了。", "去了。"),
    ],
)
def test_the_last_sentence(text, sentence):
    assert last_sentence(text) == sentence


def test_long_sentences_are_cut_between_words():
    text = " ".join(f"word{n}" for n in range(200))
    told = last_sentence(text)
    assert text.endswith(" " + told)
    assert LONGEST - 8 < len(told) <= LONGEST
    assert last_sentence(text, len("word199")) == "word199"
    assert last_sentence("x" * 500) == "x" * LONGEST


def test_control_tokens_are_not_told():
    state = torch.zeros(2)
    moments = [Moment(text, "", [], state) for text in ("One. Two <|im_end|>\n", "<|im_start|>")]
    said = as_explainer("sentence")("One. Two. Three.", moments)
    assert said == [('Sentence so far: "Two".', None), ("No sentence so far.", None)]


def test_a_yaml_file_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    second = [f"Mira had {n} kites." for n in range(40)]
    (tmp_path / "text.txt").write_text("\n\n".join(f"Tom was happy. {sentence}" for sentence in second))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    said = run_cli(["fit", "-c", "run.yaml"]).datamodule.train_states.explanations
    for told in said:
        sentence = told.removeprefix('Sentence so far: "').removesuffix('".')
        assert any(whole.startswith(sentence) for whole in ("Tom was happy.", *second)), told
    assert len(set(said)) > 5
