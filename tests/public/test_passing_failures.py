"""``onError="pass"``: a ``Failure`` with the exception goes on in the place of an item that has failed."""

from __future__ import annotations

import threading
import time

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun
from support import die

import job_stream
from job_stream import Multiple, Work
from job_stream.errors import JobStreamError, LaneDied, PlanError, StageTimeout
from job_stream.values import Failure

needs_ranks = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)
WAYS = [{}, {"useMultiprocessing": False}, {"seed": 3}]


class Odd(Exception):
    """Its constructor takes something else than its args."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def risky(x):
    if x % 3 == 0:
        raise ValueError(f"no {x}")
    return 10 * x


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_failure_goes_through_the_stages_behind_in_the_place_of_its_item(way):
    w = Work(range(10), **way)
    w.job(onError="pass")(risky)

    @w.job
    def after(x):
        return ("failed", x.item, x.stage, x.attempts, str(x.exception)) if isinstance(x, Failure) else x

    found = w.run()
    assert sorted(x for x in found if isinstance(x, int)) == [10, 20, 40, 50, 70, 80]
    failed = sorted(x for x in found if not isinstance(x, int))
    assert failed == [("failed", x, "risky", 1, f"no {x}") for x in (0, 3, 6, 9)]
    assert w.failures == []


def test_a_frame_hears_of_each_child_that_failed():
    w = Work([[1, 2, 3]])

    @w.frame
    def head(store, items):
        if not hasattr(store, "failed"):
            store.failed, store.good = [], []
            return Multiple(items)

    w.job(onError="pass")(risky)

    @w.frameEnd
    def end(store, x):
        (store.failed if isinstance(x, Failure) else store.good).append(x)

    (store,) = w.run()
    assert sorted(store.good) == [10, 20]
    assert [(failure.item, type(failure.exception)) for failure in store.failed] == [(3, ValueError)]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_map_holds_a_failure_in_the_place_of_an_item(way):
    found = job_stream.map(risky, range(6), onError="pass", **way)
    assert [x.item if isinstance(x, Failure) else x for x in found] == [0, 10, 20, 3, 40, 50]
    assert type(found[3].exception) is ValueError


def test_all_retries_are_made_first(tally):
    def stubborn(x):
        tally.note(x)
        raise OSError("busy")

    (failure,) = job_stream.map(stubborn, [1], onError="pass", retries=2)
    assert (len(tally), failure.attempts) == (3, 3)


@pytest.mark.parametrize("make", [lambda: Odd(1, 2), lambda: _locked()], ids=["odd constructor", "holds a lock"])
def test_an_exception_that_cannot_be_pickled_is_told_in_words(make):
    def fails(x):
        raise make()

    (failure,) = job_stream.map(fails, [1], onError="pass")
    assert type(failure.exception) is JobStreamError
    assert str(make()) in str(failure.exception)


def _locked():
    error = RuntimeError("locked away")
    error.lock = threading.Lock()
    return error


@pytest.mark.parametrize("way", [{}, {"seed": 3}], ids=str)
def test_an_item_that_ends_its_worker_goes_on_as_a_failure(tally, way):
    w = Work([1, 2, 3], **way)

    @w.job(onError="pass", alone=True, deaths=2)
    def deadly(x):
        if x == 2:
            tally.note(x)
            die()
        return x

    @w.job
    def after(x):
        return (x.item, x.attempts, type(x.exception), "SIGKILL" in x.reason) if isinstance(x, Failure) else x

    assert sorted(w.run(), key=str) == [(2, 2, LaneDied, True), 1, 3]
    assert len(tally) == 2
    assert w.failures == []


def test_in_a_map_too():
    def deadly(x):
        if x == 2:
            die()
        return x

    found = job_stream.map(deadly, range(5), onError="pass", deaths=1)
    assert [x.item if isinstance(x, Failure) else x for x in found] == [0, 1, 2, 3, 4]
    assert type(found[2].exception) is LaneDied


def test_an_item_whose_time_is_up_goes_on_as_a_failure():
    w = Work([0, 60])

    @w.job(onError="pass", timeout=1)
    def wait(seconds):
        time.sleep(seconds)
        return seconds

    zero, failure = sorted(w.run(), key=lambda x: isinstance(x, Failure))
    assert (zero, failure.item, type(failure.exception)) == (0, 60, StageTimeout)


def test_a_failure_comes_after_the_elements_that_a_generator_gave():
    def numbers(n):
        yield from range(n)
        raise ValueError("torn off")

    w = Work([5000])
    w.job(lambda n: Multiple(numbers(n)), onError="pass")
    found = w.run()
    given = sorted(x for x in found if isinstance(x, int))
    assert given == list(range(len(given)))
    assert len(given) > 0
    assert [str(x.exception) for x in found if not isinstance(x, int)] == ["torn off"]


def test_of_a_work_it_holds_for_jobs_and_other_stages_raise():
    w = Work([1, 2, 3], onError="pass")
    w.job(risky)

    @w.reduce
    def gather(store, works, others):
        raise KeyError("a reduce")

    with pytest.raises(KeyError, match="a reduce"):
        w.run()


@pytest.mark.parametrize("stage", ["frame", "reduce", "result", "finish", "init"])
def test_only_a_job_can_pass_failures_on(stage):
    def function(*args):
        return None

    function.__defaults__ = ()
    w = Work([1])
    functions = {"frame": lambda s, x: None, "reduce": lambda s, w, o: None, "init": lambda: None}
    with pytest.raises(PlanError, match="onError='pass' is for jobs"):
        getattr(w, stage)(onError="pass")(functions.get(stage, lambda x: None))


def test_a_run_that_goes_on_from_a_checkpoint_keeps_failures(tmp_path):
    path, seen = tmp_path / "checkpoint", []
    for stop in (True, False):
        w = Work(range(30), checkpointFile=path)
        w.job(onError="pass")(risky)

        @w.result
        def keep(x, w=w, stop=stop):
            seen.append(x.item if isinstance(x, Failure) else x)
            if stop:
                w.cancel()

        w.run()
    assert sorted(seen) == sorted(x if x % 3 == 0 else 10 * x for x in range(30))


RANKS = """
    import os, signal, time
    from job_stream import Work, getRank
    from job_stream.values import Failure

    w = Work(range(40))

    @w.job(onError="pass", deaths=1)
    def risky(x):
        time.sleep(0.01)
        if x == 7:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        if x % 10 == 3:
            raise ValueError(x)
        return x

    @w.finish
    def finish(found):
        failed = sorted((x.item, type(x.exception).__name__) for x in found if isinstance(x, Failure))
        print(len(found), failed)

    w.run()
"""


@needs_ranks
def test_on_several_ranks_too(script):
    ended = mpirun(script(RANKS), 3)
    assert ended.code == 0, ended.err
    expected = [(3, "ValueError"), (7, "LaneDied"), *((x, "ValueError") for x in (13, 23, 33))]
    assert ended.out == f"40 {expected}\n"
