"""Suite layers_matrix on a few stories: rows for every layer, and the layer of training is not hurt by its maps."""

import pytest

from tl_nla.errors import InputError
from tl_nla.evaluation.layers_matrix_suite import evaluate


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
