"""Lower precision of matrix products for the length of a training."""

import pytest
import torch

from lightning_modules.data.oracle_config import OracleConfig
from lightning_modules.training.oracle_stages import reconstructor_spec
from lightning_modules.training.precision import known_precision, matmul_precision
from lightning_modules.training.stage import StageConfig, run_stage
from tests.oracle.tiny import make_oracle, vectors
from tl_nla.errors import InputError
from tl_nla.model.placement import known_device


def test_precision_and_attention_are_set_inside_and_back_afterwards():
    reader = make_oracle().verbalizer
    kind, known = reader.model.config._attn_implementation, torch.get_float32_matmul_precision()
    assert kind != "eager"
    seen = []

    def work():
        with matmul_precision(reader, "medium"):
            seen.append((torch.get_float32_matmul_precision(), reader.model.config._attn_implementation))
            with matmul_precision(reader, "highest"):
                seen.append(torch.get_float32_matmul_precision())
            seen.append(torch.get_float32_matmul_precision())
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert seen == [("medium", "eager"), "highest", "medium"]
    assert torch.get_float32_matmul_precision() == known
    assert reader.model.config._attn_implementation == kind


def test_unknown_precisions_are_refused():
    with pytest.raises(InputError, match="unknown precision of matrix products"):
        known_precision("low")
    with pytest.raises(InputError, match="unknown precision"):
        OracleConfig(precision="low")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_devices_that_cannot_be_used_are_refused(name):
    assert known_device("cpu") == "cpu"
    with pytest.raises(InputError, match=f"device is '{name}', which cannot be used here"):
        OracleConfig(device=name)


def test_training_scores_in_full_precision():
    reconstructor = make_oracle().reconstructor
    seen = []
    write, texts = vectors(8)[1], ["It promotes red", "It promotes blue"] * 4

    def score():
        seen.append((torch.get_float32_matmul_precision(), reconstructor.training))

    config = StageConfig(2, 4, curve=2, precision="medium")
    curve = run_stage(reconstructor, reconstructor_spec(reconstructor, texts, write, config, score))
    assert curve.steps == [1, 2]
    assert seen == [("highest", False)] * 2
    assert torch.get_float32_matmul_precision() == "highest"
