"""What the sweep writes down of a pair, and when."""

import pytest
import torch

from docs.studies.steganography.sweep_rows import Run
from docs.studies.steganography.sweep_runs import _intervals, _MeasureAt
from lightning_modules.callbacks.faithfulness import FaithfulnessCallback
from tests.lightning_modules.callbacks.test_faithfulness import make_pair, states

RUN = Run(0, 10, 0.0, False)


class Watch(FaithfulnessCallback):
    """Counts how often it is asked."""

    def terms(self, nla):
        self.asked = getattr(self, "asked", 0) + 1
        count = len(self.states)
        return {"fve": (torch.full((count,), float(self.asked)), torch.ones(count))}


def test_a_chosen_step_is_measured_once_and_no_other():
    stops, pair = _MeasureAt(Watch(states()), {0, 5}, RUN), make_pair()
    for step in (0, 3, 5, 5):
        stops.measure(pair, step)
    assert [(point.steps, point.value("fve")) for point in stops.points] == [(0, 1.0), (5, 2.0)]
    assert stops.watch.asked == 2
    stops.add({"fve_plain": (torch.ones(len(stops.watch.states)), torch.ones(len(stops.watch.states)))}, 5)
    assert [point.value("fve_plain") for point in stops.points] == [None, 1.0]


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
