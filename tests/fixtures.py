"""Fixtures shared by all tests: seeds, tiny models (built once, read-only), the two model classes.

``tl_nla`` is not imported at the top of this file: the check of annotations has to be in place before.
"""

import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import zoo

# Shared machines pause: a slow example is no failure. Fixtures that hypothesis tests share are read-only.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("project")

_shared: dict[tuple[str, str], object] = {}
_points: dict[tuple[str, str], list] = {}  # hook points of the shared models, which are costly to collect


def shared_model(kind: str, family: str):
    """The one read-only model of this kind (``bridge``, ``hooked``, ``hf``) and family, built when first asked for."""
    if (kind, family) not in _shared:
        if kind == "hooked" and not zoo.HAS_HOOKED_TRANSFORMER:
            pytest.skip("HookedTransformer left TransformerLens with version 4")
        if kind == "hooked" and family not in zoo.TWIN_FAMILIES:
            pytest.skip(f"HookedTransformer does not load {family} from a folder")
        build = {"bridge": zoo.bridge, "hooked": zoo.hooked_twin, "hf": zoo.hf_model}[kind]
        _shared[kind, family] = build(family)
        if kind != "hf":
            _points[kind, family] = list({id(one): one for one in _shared[kind, family].hook_dict.values()}.values())
    return _shared[kind, family]


@pytest.fixture(autouse=True)
def seed():
    """Every test starts from the same global random state."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return 0


@pytest.fixture
def unchecked():
    """Without the check of annotations: what a user meets who gives the wrong type."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _shared_models_stay_clean():
    """No test may leave a hook on a shared model."""
    yield
    for place, points in _points.items():
        if any(point.fwd_hooks or point.bwd_hooks for point in points):
            _refuse_hooks(*place)


@pytest.fixture(autouse=True, scope="module")
def _shared_models_stay_clean_where_points_were_added():
    """As above, for hook points that a test made. Looking for them costs two milliseconds a model: once a file."""
    yield
    for kind, family in _points:
        _refuse_hooks(kind, family)


def _refuse_hooks(kind: str, family: str) -> None:
    model = _shared[kind, family]
    if left := zoo.hook_counts(model):
        model.reset_hooks(including_permanent=True)
        pytest.fail(f"hooks left on the shared {kind} of {family}: {left}")


@pytest.fixture(scope="session")
def tokenizer():
    """The tiny word-level tokenizer of the zoo's models."""
    return zoo.tokenizer()


@pytest.fixture(scope="session")
def get_model():
    """``get_model(kind, family)``: a shared read-only model; kinds ``bridge``, ``hooked``, ``hf``."""
    return shared_model


@pytest.fixture(params=zoo.FAMILIES)
def family(request):
    """Each model family in turn."""
    return request.param


@pytest.fixture
def bridge(family):
    """A shared read-only bridge of each family in turn."""
    return shared_model("bridge", family)


@pytest.fixture(params=["bridge", "hooked"])
def model(request):
    """A shared read-only GPT-2 of each TransformerLens model class in turn (HookedTransformer where it exists)."""
    return shared_model(request.param, "gpt2")


@pytest.fixture(scope="session")
def llama():
    """A shared read-only bridge with grouped-query attention."""
    return shared_model("bridge", "llama")
