"""What the sweep writes down of a pair, and when."""

import pytest
import torch

from lightning_modules.stego_runs import _intervals, _MeasureAt
from tl_nla.evaluation.steganography_sweep import Run

RUN = Run(0, 10, 0.0, False)


class Watch:
    """Measures the step that it is told."""

    def __init__(self):
        self.states = type("States", (), {"document": torch.arange(6) // 2})

    def terms(self, pair):
        return {"fve": (torch.full((6,), float(pair)), torch.ones(6)), "empty": (torch.zeros(6), torch.zeros(6))}


def test_a_chosen_step_is_measured_once_and_no_other():
    stops = _MeasureAt(Watch(), {0, 5}, RUN)
    for pair, step in ((1, 0), (2, 3), (3, 5), (4, 5)):
        stops.measure(pair, step)
    assert [(point.steps, point.value("fve")) for point in stops.points] == [(0, 1.0), (5, 3.0)]


def test_intervals_are_of_documents_and_what_was_never_said_is_left_out():
    values = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    found = _intervals(
        {"fve": (values, torch.ones(6)), "claims": (torch.zeros(6), torch.zeros(6))}, torch.arange(6) // 2
    )
    assert set(found) == {"fve"}
    value, low, high = found["fve"]
    assert value == pytest.approx(1)
    assert low == pytest.approx(0)
    assert high == pytest.approx(2)  # three documents, drawn whole
