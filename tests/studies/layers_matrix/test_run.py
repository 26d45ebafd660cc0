"""Suite layers_matrix on a few stories: rows for every layer, and the layer of training is not hurt by its maps."""

import pytest
import torch
from safetensors.torch import save_file

from docs.studies.layers_matrix import run as layers_matrix_suite
from docs.studies.layers_matrix.run import evaluate, stored_rows
from docs.studies.layers_matrix.score import LayerStates, add_scores
from tl_nla.errors import InputError
from tl_nla.metrics import normalise, squared_errors
from tl_nla.storyworld.tiny import load_tiny


def test_every_layer_before_and_after():
    found = evaluate(documents=3, train_documents=60)
    values = {(row.arm, row.layer): row.value for row in found.rows if row.metric == "fve"}
    assert set(values) == {(arm, layer) for arm in ("warm_start", "explanation", "gold") for layer in range(4)}
    assert values["gold", 2] > 0.99, "a map from a layer to itself loses nothing"
    assert values["warm_start", 2] > 0.8
    assert abs(values["explanation", 2] - values["warm_start", 2]) < 0.1
    assert values["explanation", 1] > values["warm_start", 1]


def test_other_models_are_refused():
    with pytest.raises(InputError, match="use --model tiny"):
        evaluate("gpt2")


def test_stored_scores_are_the_whole_matrix(tmp_path, monkeypatch):
    path = tmp_path / "rows.safetensors"
    monkeypatch.setattr(layers_matrix_suite, "STORED_ROWS", path)
    assert stored_rows() == []
    sums = {"0/1/warm_start/0": 8.0, "0/1/explanation/0": 2.0, "2/1/reinforced/0": 1.0, "2/1/reinforced/1": 3.0}
    known = {f"errors/{name}": torch.full((4,), value) for name, value in sums.items()}
    known |= {f"deviation/1/{seed}": torch.full((4,), 10.0 + 10 * seed) for seed in range(2)}
    save_file({"document": torch.arange(4), **known}, path)
    found = {(row.arm, row.metric, row.layer): row.value for row in stored_rows()}
    assert found == {
        ("warm_start", "fve/trained_at_0", 1): pytest.approx(0.2),
        ("explanation", "fve/trained_at_0", 1): pytest.approx(0.8),
        ("explanation", "fve/trained_at_2_reinforced", 1): pytest.approx((0.9 + 0.85) / 2),
    }


def test_scores_are_added_as_sums_over_stories(tmp_path, monkeypatch):
    path = tmp_path / "rows.safetensors"
    monkeypatch.setattr(layers_matrix_suite, "STORED_ROWS", path)
    pair, acts = load_tiny().nla, torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    held = LayerStates({1: acts}, torch.tensor([4, 4, 7]))
    add_scores(path, "2/1/warm_start", pair, LayerStates({1: acts + 1}, torch.empty(0)), held, 1)
    (row,) = stored_rows()
    errors = squared_errors(pair.reconstruct(pair.verbalize(acts, max_new_tokens=110)), acts)
    mean = normalise(acts + 1).double().mean(0)
    assert row.value == pytest.approx(
        1 - float(errors.sum() / (normalise(acts).double() - mean).square().sum()), abs=1e-4
    )
    assert row.n == 2
