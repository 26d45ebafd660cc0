import dataclasses
import json

import pytest
import torch

from docs.studies.steganography.figure import draw_frontier, draw_precision
from docs.studies.steganography.sweep import POINTS, SweepConfig, sweep
from docs.studies.steganography.sweep_rows import Point, read_points
from docs.studies.steganography.sweep_runs import ParaphrasedTraining
from lightning_modules.training.nla_training import NLATraining
from lightning_modules.training.policy_config import PolicyConfig
from tests.lightning_modules.callbacks.test_faithfulness import make_pair
from tl_nla.errors import InputError
from tl_nla.faithfulness.perturbations import paraphrase
from tl_nla.nla.rollouts import RolloutConfig

CONFIG = SweepConfig(kl_weights=(0.0, 0.1), warm_steps=(10,), steps=(0, 5), paraphrase=(False,))


def measures(fve, precision):
    return {"fve": (fve, fve - 0.1, fve + 0.1), "claim_precision": (precision, precision - 0.1, precision + 0.1),
            "paraphrase_excess": (0.0, -0.1, 0.1)}  # fmt: skip


def fake(calls):
    def train(run, config):
        calls.append(run)
        return [Point(run, steps, measures(0.5 + steps / 100, 0.9 - run.kl_weight)) for steps in (0, 5, 9)]

    return train


def test_every_setting_is_one_run():
    grid = SweepConfig(kl_weights=(0.0, 1.0), warm_steps=(1, 2), steps=(0,), paraphrase=(False, True), seeds=(0, 1))
    runs = grid.runs()
    assert len(runs) == len(set(runs)) == 16


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    calls = []
    assert len(sweep(tmp_path, CONFIG, fake(calls), limit=1)) == 2
    with (tmp_path / POINTS).open("a") as file:
        file.write('{"run": {"seed"')  # a crash while writing
    (tmp_path / POINTS).write_text((tmp_path / POINTS).read_text() + "\n")
    points = sweep(tmp_path, CONFIG, fake(calls))
    assert [(p.run.kl_weight, p.steps) for p in points] == [(0.0, 0), (0.0, 5), (0.1, 0), (0.1, 5)]
    assert calls == CONFIG.runs()
    assert sweep(tmp_path, CONFIG, fake(calls)) == points
    assert calls == CONFIG.runs()  # nothing was repeated
    assert read_points(tmp_path / POINTS) == points


def test_points_that_were_not_asked_for_are_not_kept(tmp_path):
    sweep(tmp_path, CONFIG, fake([]))
    assert {json.loads(line)["steps"] for line in (tmp_path / POINTS).read_text().splitlines()} == {0, 5}


def test_figure(tmp_path):
    pytest.importorskip("matplotlib")
    points = sweep(tmp_path, CONFIG, fake([]))
    draw_precision(points, [(0.5, 0.6), (0.49, 0.8)], tmp_path / "precision.svg")
    first = (tmp_path / "precision.svg").read_bytes()
    draw_precision(points, [(0.5, 0.6), (0.49, 0.8)], tmp_path / "precision.svg")
    assert first == (tmp_path / "precision.svg").read_bytes()  # the same points give the same file
    draw_frontier(points, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 5000
    for draw in (draw_frontier, lambda points, path: draw_precision(points, [], path)):
        with pytest.raises(InputError, match="no points"):
            draw([], tmp_path / "none.png")


def test_grid_is_checked():
    with pytest.raises(InputError, match="seeds is empty"):
        SweepConfig(seeds=())
    with pytest.raises(InputError, match="cannot be negative"):
        SweepConfig(kl_weights=(-1.0,))


def test_paraphrased_reward_reads_other_words(monkeypatch):
    """The reconstructor reads the paraphrase of what was sampled, and the sampled words stay the policy's."""
    acts, rollouts = torch.randn(2, 48), RolloutConfig(group=2, max_new_tokens=12)
    plain = NLATraining(nla=make_pair(), policy=PolicyConfig(kl_weight=0.0), rollouts=rollouts).explore(acts)
    said = ['Recent words: " red. Tom". This is about Tom.'] * 4
    monkeypatch.setattr(NLATraining, "explore", lambda self, acts: with_texts(plain, said))
    found = ParaphrasedTraining(nla=make_pair(), policy=PolicyConfig(kl_weight=0.0), rollouts=rollouts).explore(acts)
    assert found.texts == [paraphrase(text, 0) for text in said]
    assert found.generation is plain.generation


def with_texts(experience, texts):
    return dataclasses.replace(experience, texts=texts)
