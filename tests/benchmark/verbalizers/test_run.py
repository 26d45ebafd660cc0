"""The whole benchmark on a random released folder, and an oracle on the embedded model: cheaters, parts, reports."""

import json
import random
from dataclasses import replace

import pytest
import torch

from tl_nla.benchmark.results import read_results
from tl_nla.benchmark.verbalizers import BenchmarkConfig, Sizes, to_html, to_results
from tl_nla.benchmark.verbalizers.page import log_outcome
from tl_nla.benchmark.verbalizers.run import Benchmark, run_benchmark
from tl_nla.cli.main import main
from tl_nla.errors import InputError
from tl_nla.nla.formats.testing import write_kitft

WORDS = "the a cat dog runs sees house tree red blue over under with small big old new day night water".split()
SMALL = Sizes(train=20, calibration=3, test=11, positions=1, train_positions=2, planted=10, silent=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random pair in the official layout, and texts."""
    place, rng = tmp_path_factory.mktemp("benchmark"), random.Random(0)
    write_kitft(place / "pair")
    texts = "\n\n".join(" ".join(rng.choices(WORDS, k=60)) for _ in range(60))
    (place / "texts.txt").write_text(texts)
    return place


@pytest.fixture(scope="module")
def command(folder):
    """The command's files; the benchmark of a released folder."""
    out = folder / "out"
    out.mkdir()
    code = main([
        "benchmark", "--model", str(folder / "pair" / "av"), "--nla", str(folder / "pair"), "--size", "tiny",
        "--texts", str(folder / "texts.txt"), "--json", str(out / "r.json"), "--markdown", str(out / "r.md"),
        "--html", str(out / "r.html"), "--tensorboard", str(out / "tb"), "--words", "16",
    ])  # fmt: skip
    assert code == 0
    return out


@pytest.mark.slow
def test_a_released_folder_runs_through_and_no_cheater_passes(command):
    found = read_results(command / "r.json")
    assert found.definition["cheaters_unmasked"]
    assert found.definition["passed"] == []
    value = {(row.arm, row.metric): row for row in found.rows}
    gain = value["cheater_quotes", "headline/which_context"]
    assert gain.ci_low is not None
    assert gain.ci_low <= 0
    quoted, black = value["cheater_quotes", "score/which_context"], value["black_box_end", "score/which_context"]
    assert quoted.value == pytest.approx(black.value)
    assert black.value > 0.2
    assert value["mean", "score/which_continuation"].value == pytest.approx(0.1, abs=0.1)
    assert {"claims", "planted_facts"} <= set(found.definition["skipped"])
    assert value["cheater_letters", "fve"].value > 0.5 > value["cheater_letters", "fve_plain"].value


def test_every_control_stands_in_every_table(command):
    text = (command / "r.md").read_text()
    for arm in ("black_box_end", "black_box_continuation", "mean", "shuffled", "random_vector", "untrained",
                "logit_lens", "jacobian_lens", "probe", "gold"):  # fmt: skip
        assert f"| {arm} |" in text
    page = (command / "r.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "cheater_letters" in page
    assert "http" not in page
    assert any((command / "tb").iterdir())


def test_runs_stand_on_one_page(command, capsys):
    page = command / "board.md"
    files = [str(command / "r.json")]
    assert main(["benchmark", "--leaderboard", *files, "--markdown", str(page), "--html", str(command / "b.html")]) == 0
    assert "unmasked" in capsys.readouterr().out
    found, value = page.read_text(), read_results(command / "r.json")
    score = next(row for row in value.rows if row.arm == "explanation" and row.metric == "score/which_context")
    assert f"| which_context | {score.value:.2f};" in found
    assert f"| pair | {value.model} | 0 of {len(value.definition['tasks'])} |" in found
    assert "<table>" in (command / "b.html").read_text()
    (command / "other.json").write_text("{}")
    assert main(["benchmark", "--leaderboard", str(command / "other.json")]) == 2


@pytest.mark.slow
def test_an_interrupted_run_goes_on(folder, tmp_path):
    asked = []

    def tell(acts):
        asked.append(len(acts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return [f"the cat {row % 3}" for row in range(len(acts))]

    what = Benchmark(str(folder / "pair" / "av"), tell, texts=folder / "texts.txt", layer=1, keep=tmp_path / "parts")
    config = BenchmarkConfig(sizes=SMALL, words=8, resamples=20, cheaters=False)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(what, config)
    [first] = run_benchmark(what, config)
    before = len(asked)
    [second] = run_benchmark(what, config)
    assert len(asked) == before
    assert [one.scores for one in first.tasks] == [one.scores for one in second.tasks]
    assert json.loads(json.dumps(to_results(second).as_dict()))["suite"] == "verbalizers"
    with pytest.raises(InputError, match="other settings"):
        run_benchmark(what, BenchmarkConfig(seed=1, sizes=SMALL))

    class Writer:
        """Keeps what is written."""

        def __init__(self):
            self.texts, self.scalars = {}, {}

        def add_text(self, name, text, step):
            self.texts[name] = text

        def add_scalar(self, name, value, step):
            self.scalars[name] = value

    writer = Writer()
    log_outcome(writer, second)
    assert "## Headlines" in writer.texts["benchmark/tell"]
    assert "benchmark/gain/next_token" in writer.scalars
    assert "&lt;" not in to_html(second)


def test_a_false_start_is_told(folder):
    texts, model = folder / "texts.txt", str(folder / "pair" / "av")
    with pytest.raises(InputError, match="--layer"):
        run_benchmark(Benchmark(model, lambda acts: [""] * len(acts), texts=texts), BenchmarkConfig(sizes=SMALL))
    with pytest.raises(InputError, match="brings no texts"):
        run_benchmark(Benchmark(model, lambda acts: []))
    with pytest.raises(InputError, match="brings no verbalizer"):
        run_benchmark(Benchmark(model))
    with pytest.raises(InputError, match="smaller --size"):
        run_benchmark(Benchmark(model, lambda acts: [], texts=texts, layer=0))
    with pytest.raises(InputError, match="reader"):
        BenchmarkConfig(reader="nobody")


def test_words_of_writes_are_asked_which_write_it_was(folder):
    """An oracle that says the label is right, one that always says the same is not."""
    from tl_nla.benchmark.verbalizers.write_board import run_writes
    from tl_nla.benchmark.verbalizers.writes import capture_write_subject
    from tl_nla.data import text_file_documents
    from tl_nla.model.loading import load_causal_lm
    from tl_nla.model.targets import load_target

    model = folder / "pair" / "av"
    documents, few = text_file_documents(folder / "texts.txt"), replace(SMALL, train=8, calibration=2, test=5)
    subject = capture_write_subject(load_target(model), documents, few, 0)
    labels = {tuple(write.tolist()): text for part in (subject.calibration, subject.test)
              for write, text in zip(part.rows.acts, part.gold, strict=True)}  # fmt: skip

    def right(write, before):
        return [labels.get(tuple(row.tolist()), "nothing") for row in write]

    config = BenchmarkConfig(sizes=SMALL, words=40, resamples=20, cheaters=False)
    language_model = load_causal_lm(model)
    good = {one.task: one for one in run_writes(subject, right, language_model, config).tasks}
    assert good["which_write"].scores["explanation"].value > 0.9
    assert good["which_write"].scores["mean"].value < 0.5
    bad = {one.task: one for one in run_writes(subject, lambda w, b: ["it"] * len(w), language_model, config).tasks}
    assert bad["which_write"].scores["explanation"].value == pytest.approx(0.1)
    for task, chance in (("nearest_write", 0.1), ("write_reconstruction_64", 0.0)):
        assert good[task].scores["explanation"].value > chance + 0.1
        assert bad[task].scores["explanation"].value == pytest.approx(chance, abs=0.05)
    assert not any(one.headlines["explanation"].passed for one in bad.values())
    assert torch.equal(subject.test.rows.document.unique(return_counts=True)[1], torch.full((5,), 10))
