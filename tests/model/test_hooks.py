"""Functions on hook points come off again on every path, and only these."""

import pytest
import torch

from tests import zoo
from tl_nla.errors import InputError
from tl_nla.model.hooks import is_bridge, tap

POINT = "blocks.1.hook_resid_post"


def noting(notes, name):
    def function(activation, hook):
        notes.append(name)

    return function


def test_functions_run_in_order_behind_the_users_own(model):
    notes, point = [], model.hook_dict[POINT]
    point.add_hook(noting(notes, "user"))
    try:
        with tap(model, [(POINT, noting(notes, "a")), ("blocks.0.hook_resid_pre", noting(notes, "first"))]) as same:
            assert same is model
            with tap(model, [(POINT, noting(notes, "b"))]):
                model(zoo.tokens())
        assert notes == ["first", "user", "a", "b"]
        notes.clear()
        model(zoo.tokens())
        assert notes == ["user"]
    finally:
        model.reset_hooks()


def test_contexts_may_be_left_in_any_order(model):
    notes = []
    first, second = tap(model, [(POINT, noting(notes, 1))]), tap(model, [(POINT, noting(notes, 2))])
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    model(zoo.tokens())
    second.__exit__(None, None, None)
    model(zoo.tokens())
    assert notes == [2]
    assert not zoo.hook_counts(model)


def test_a_reset_inside_is_survived(model):
    with tap(model, [(POINT, noting([], 1))]):
        model.reset_hooks()
    assert not zoo.hook_counts(model)


def test_hooks_come_off_after_an_exception(model):
    def fail(activation, hook):
        raise RuntimeError("midway")

    before = model(zoo.tokens())
    with pytest.raises(RuntimeError, match="midway"), tap(model, [(POINT, noting([], 1)), (POINT, fail)]):
        model(zoo.tokens())
    assert not zoo.hook_counts(model)
    assert torch.equal(model(zoo.tokens()), before)


def test_hooks_added_inside_stay(model):
    notes = []
    with tap(model, [(POINT, noting(notes, "ours"))]):
        model.hook_dict[POINT].add_hook(noting(notes, "user"))
    model(zoo.tokens())
    model.reset_hooks()
    assert notes == ["user"]


def test_functions_can_change_the_model(model):
    clean = model(zoo.tokens())
    with tap(model, [(POINT, lambda activation, hook: activation + 1)]):
        assert not torch.allclose(model(zoo.tokens()), clean)
    assert torch.equal(model(zoo.tokens()), clean)


def test_unknown_names_are_refused_before_anything_is_attached(model):
    near = [("blocks.1.hook_resid_pst", noting([], 0))]
    with pytest.raises(InputError, match=r"nearest: .*blocks\.1\.hook_resid_post"), tap(model, near):
        pass
    pairs = [(POINT, noting([], 1)), ("blocks.9.hook_resid_post", noting([], 2))]
    with pytest.raises(InputError, match="unknown hook point"), tap(model, pairs):
        pass
    assert not zoo.hook_counts(model)


def test_is_bridge(model):
    assert is_bridge(model) == (type(model).__name__ == "TransformerBridge")
