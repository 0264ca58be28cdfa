"""What is computed in a second thread."""

import threading
import time

import pytest

from kdsr.deployment.background import compute_ahead


def test_items_come_in_order_and_the_thread_ends():
    before = threading.active_count()
    assert list(compute_ahead(range(50))) == list(range(50))
    assert threading.active_count() == before


def test_an_exception_comes_in_its_place():
    def items():
        yield 1
        raise ZeroDivisionError

    ahead = compute_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_whoever_leaves_early_stops_the_work():
    done = []

    def items():
        for i in range(10_000):
            done.append(i)
            yield i

    ahead = compute_ahead(items(), ahead=2)
    assert next(ahead) == 0
    time.sleep(0.05)
    assert len(done) <= 4
    before = threading.active_count()
    ahead.close()
    assert threading.active_count() == before - 1
    assert len(done) <= 5
