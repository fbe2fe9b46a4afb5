"""``Pool``: what the documentation of ``multiprocessing.Pool`` promises, and what is more here."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time

import pytest
from support import DEADLINE_S, die

import job_stream
from job_stream import Pool
from job_stream.errors import LaneDied, StageError
from job_stream.futures import Executor
from job_stream.futures.bulk import Bulk

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def pool():
    with Pool(2) as pool:
        yield pool


def square(number):
    return number * number


# --- map --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [0, 1, 3, 5000])
def test_map_gives_a_list_in_order(pool, count):
    assert pool.map(square, range(count)) == [i * i for i in range(count)]


def test_a_pool_may_be_called_as_map_is(pool):
    ten = 10
    assert pool(lambda number: number + ten, (i for i in range(3))) == [10, 11, 12]


def test_starmap_spreads_items(pool):
    assert pool.starmap(pow, [(2, 3), [3, 2]], chunksize=5) == [8, 9]


def test_long_items_are_not_held_up_behind_short_ones(pool, tmp_path):
    def meet(number):
        """The last two wait for each other, so two workers have to have them."""
        if number >= 998:
            (tmp_path / str(number)).touch()
            end = time.monotonic() + DEADLINE_S
            while not (tmp_path / str(1997 - number)).exists():
                if time.monotonic() > end:
                    raise TimeoutError
                time.sleep(0.001)
        elif number >= 990:
            time.sleep(0.05)
        return number

    assert pool.map(meet, range(1000)) == list(range(1000))


def test_an_exception_of_map_tells_the_item(pool):
    with pytest.raises(ZeroDivisionError) as raised:
        pool.map(lambda number: 1 // number, [3, 2, 1, 0])
    cause = raised.value.__cause__
    assert isinstance(cause, StageError)
    assert cause.item == "0"
    assert "job_stream" not in cause.traceback.split("line")[0]
    assert pool.map(square, [2]) == [4]


def test_a_worker_that_dies_does_not_make_map_wait_for_ever(pool):
    with pytest.raises(LaneDied):
        pool.map(lambda number: die() if number == 70 else number, range(100))
    assert pool.map(square, [2]) == [4]


def test_an_item_that_kills_its_worker_once_costs_nothing(pool, once):
    assert pool.map(lambda number: die() if number == 70 and once() else number, range(100)) == list(range(100))


def test_of_many_items_only_the_one_that_kills_is_given_up():
    with Executor(2) as executor:
        bulk = Bulk(executor._service, lambda number: die() if number == 70 else number, list(range(100)), False)
        assert isinstance(bulk.future.exception(DEADLINE_S), LaneDied)
        assert sum(result is not None for result in bulk._results) > 50


# --- imap -------------------------------------------------------------------------------------------------------------
def test_imap_takes_endless_iterables_in_order(pool):
    assert list(itertools.islice(pool.imap(square, itertools.count()), 100)) == [i * i for i in range(100)]


def test_imap_unordered_gives_what_is_there_first(pool, gate):
    def first_waits(number):
        if number == 0:
            gate.wait()
        return number

    results = pool.imap_unordered(first_waits, range(3))
    assert {next(results), next(results)} == {1, 2}
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.01)
    gate.open()
    assert list(results) == [0]


def test_imap_raises_where_the_result_would_have_been_and_goes_on(pool):
    results = pool.imap(lambda number: 1 // number, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == [1]


# --- without waiting --------------------------------------------------------------------------------------------------
def test_an_async_result_tells_how_it_is(pool, gate):
    result = pool.apply_async(lambda word, *, more: (gate.wait(), word + more)[1], ("a",), {"more": "b"})
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    gate.open()
    assert result.get() == "ab"
    assert result.successful()
    failing = pool.apply_async(divmod, (1, 0))
    failing.wait()
    assert not failing.successful()
    assert pool.apply(pow, (2, 3)) == 8


def test_callbacks_are_told_results_and_exceptions(pool):
    told = []
    both = threading.Semaphore(0)

    def tell(what):
        told.append(what)
        both.release()

    pool.map_async(square, range(3), callback=tell).wait()
    pool.starmap_async(divmod, [(1, 0)], error_callback=tell).wait()
    for _ in range(2):
        assert both.acquire(timeout=DEADLINE_S)
    assert told[0] == [0, 1, 4]
    assert isinstance(told[1], ZeroDivisionError)


# --- workers ----------------------------------------------------------------------------------------------------------
def test_a_worker_is_replaced_after_so_many_calls(tally):
    def note(number):
        tally.note(os.getpid())
        return number

    with Pool(2, maxtasksperchild=3) as pool:
        assert pool.map(note, range(30)) == list(range(30))
        assert [pool.apply(abs, (-number,)) for number in range(10)] == list(range(10))
    pids = tally.lines()
    assert len(pids) == 30
    assert max(pids.count(pid) for pid in set(pids)) <= 3


def test_the_initializer_runs_in_each_worker():
    with Pool(2, os.putenv, ("NAME", "there")) as pool:
        assert pool.size == 2
        assert pool.apply(os.getpid) != os.getpid()


@pytest.mark.parametrize("wrong", [{"processes": 0}, {"maxtasksperchild": -1}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Pool(**wrong)


# --- the end ----------------------------------------------------------------------------------------------------------
def test_a_closed_pool_makes_its_calls_and_takes_no_more(tally):
    pool = Pool(2)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.map_async(tally.note, range(20))
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.map(square, [1])
    pool.join()
    assert result.ready() or result.get() is not None


def test_an_exception_that_leaves_the_block_ends_all_at_once():
    results = []

    def fail():
        with Pool(2) as pool:
            results.append(pool.apply_async(time.sleep, (1000,)))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert results[0].ready()


def test_in_a_job_a_pool_makes_calls_at_once():
    def nested(number):
        with Pool(4) as pool:
            return pool.map(square, range(number)), list(pool.imap(square, [number])), {pool.apply(os.getpid)}

    (squares, last, pids), *_ = job_stream.map(nested, [3, 4])
    assert (squares, last) == ([0, 1, 4], [9])
    assert pids != {os.getpid()}


def test_scripts_for_schwimmbad_find_what_they_ask_for(pool):
    assert pool.is_master()
    assert pool.wait() is None
    assert pool.size == 2


@pytest.mark.libraries
def test_scipy_takes_its_map():
    optimize = pytest.importorskip("scipy.optimize")
    with Pool(2) as pool:
        found = optimize.differential_evolution(
            lambda x: float((x**2).sum()), [(-1, 1)] * 2, workers=pool.map, updating="deferred", maxiter=3, seed=1
        )
    assert found.nit == 3
