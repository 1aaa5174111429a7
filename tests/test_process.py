import threading

import pytest

from service.errors import ShuttingDown
from service.process import Shutdown, Stop


def test_a_stop_is_set_by_itself_or_by_its_parent_and_never_sets_that() -> None:
    parent = Stop()
    one, other = Stop(parent), Stop(parent)
    one.set()
    assert (parent.is_set(), one.is_set(), other.is_set()) == (False, True, False)
    parent.set()
    assert other.is_set()


def test_a_stop_knows_for_how_long_it_has_been_set() -> None:
    parent = Stop()
    stop = Stop(parent)
    assert not stop.is_set_for(0)
    parent.set()
    assert stop.is_set_for(0)
    assert not stop.is_set_for(1000)


def test_a_wait_ends_when_the_parent_is_set() -> None:
    parent = Stop()
    stop = Stop(parent)
    assert not stop.wait(0)
    threading.Timer(0.01, parent.set).start()
    assert stop.wait(100)


def test_a_stop_that_is_set_is_raised_with_the_reason() -> None:
    stop = Stop()
    stop.raise_if_set("not yet")
    stop.set()
    with pytest.raises(ShuttingDown, match="the end"):
        stop.raise_if_set("the end")


def test_each_share_of_the_shutdown_lies_within_the_one_before_it_and_all_within_cloud_runs_ten_seconds() -> None:
    budget = Shutdown()
    assert 10 > budget.whole > budget.run > budget.images
    assert budget.run + budget.metrics < budget.whole
