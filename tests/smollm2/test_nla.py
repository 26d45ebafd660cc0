"""The shipped NLA is there, fits its size, says how it was made, and is refused on another model."""

import json

import pytest

from tests import zoo
from tests.smollm2 import standin
from tl_nla.errors import InputError
from tl_nla.nla.adapted_files import saved_config
from tl_nla.smollm2.nla import WEIGHTS, load_nla


def test_what_ships():
    config = saved_config(WEIGHTS)
    assert (config.layer, config.slots) == (16, 8)
    assert (WEIGHTS / "adapters.safetensors").stat().st_size < 15e6
    told = json.loads((WEIGHTS / "adapters.json").read_text())
    assert {"fingerprint", "target_sha256", "data", "steps", "seed", "commit"} <= set(told["about"])
    assert {"torch", "transformers", "tl-nla"} <= set(told["provenance"]["versions"])


def test_another_model_is_refused(tmp_path, get_model):
    folder = standin.folder(tmp_path / "model")
    with pytest.raises(InputError, match=r"NLA of SmolLM2.*agree"):
        load_nla(get_model("bridge", "llama"), folder)
    with pytest.raises(InputError, match="lacks it"):
        load_nla(zoo, folder, tmp_path)
