import gc
import weakref

import pytest

from tl_nla.reports.collector import only_new_collected


def test_what_exists_is_frozen_inside_alone():
    assert gc.get_freeze_count() == 0
    with only_new_collected():
        assert gc.get_freeze_count() > 0
        assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_nothing_stays_frozen_behind_an_error():
    with pytest.raises(ZeroDivisionError), only_new_collected():
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0


def test_what_the_caller_froze_stays_frozen():
    gc.freeze()
    try:
        with only_new_collected():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_new_cycles_are_collected_inside():
    class Node:
        pass

    with only_new_collected():
        node = Node()
        node.own = node
        gone = weakref.ref(node)
        del node
        gc.collect()
        assert gone() is None
