"""Results in order, no more ahead than wanted, and none that nobody wants."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_patchpu.utils import read_ahead as module
from keras_patchpu.utils.read_ahead import read_ahead

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
@pytest.mark.parametrize("workers", [1, 4, None])
def test_every_result_in_order(ahead, workers):
    results = read_ahead(lambda x: x * x, range(20), ahead, workers)
    assert list(results) == [x * x for x in range(20)]


def test_no_items():
    assert list(read_ahead(lambda x: x, [], 3)) == []


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_items_are_taken_as_results_are(ahead):
    taken = []

    def items():
        for index in range(10):
            taken.append(index)
            yield index

    results = read_ahead(lambda x: x, items(), ahead)
    assert taken == []
    for index in range(10):
        assert next(results) == index
        assert len(taken) == min(10, index + ahead + 1)


def test_results_come_in_order_however_long_each_takes():
    second_done = threading.Event()

    def slow(x):
        if x == 0:
            second_done.wait(60)
        elif x == 1:
            second_done.set()
        return x

    assert list(read_ahead(slow, range(4), ahead=2, workers=2)) == [0, 1, 2, 3]


def test_an_exception_comes_in_the_place_of_its_result():
    results = read_ahead(lambda x: 6 // x, [3, 2, 0, 1], ahead=3)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_what_has_not_begun_is_not_computed_when_nobody_wants_more(monkeypatch):
    closing, begun = threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closing.set()
            super().shutdown(wait)

    def function(x):
        begun.append(x)
        if x > 0:
            closing.wait(60)
        return x

    monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)
    results = read_ahead(function, range(100), ahead=50, workers=1)
    assert next(results) == 0
    results.close()
    assert begun in ([0], [0, 1])
