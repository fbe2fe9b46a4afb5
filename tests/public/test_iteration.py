"""Results as they come: ``for result in w``, ``imap``, and the same for ``async for``."""

from __future__ import annotations

import asyncio
import itertools
import signal
import textwrap
import threading
import time
from contextlib import closing

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun
from support import descendants, wait_until

import job_stream
from job_stream import Multiple, Work, aimap, imap
from job_stream.errors import PlanError, StageError

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def doubling(items, **keywords):
    w = Work(items, **keywords)
    w.job(lambda number: 2 * number)
    return w


# --- for --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("useMultiprocessing", [True, False])
def test_a_work_gives_its_results_as_they_come(useMultiprocessing):
    w = doubling(range(1000), useMultiprocessing=useMultiprocessing)
    assert sorted(w) == list(range(0, 2000, 2))
    assert sorted(w.run()) == sorted(w)


def test_frames_and_reductions_may_be_in_it():
    w = Work([1, 2, 3])
    w.job(lambda number: Multiple([number] * number))

    @w.reduce(store=lambda: [0])
    def total(store, works, others):
        store[0] += sum(works) + sum(other[0] for other in others)

    assert list(w) == [[14]]


def test_results_come_while_the_run_is_under_way(gate):
    def second_waits(number):
        if number:
            gate.wait()
        return number

    results = imap(second_waits, range(2), cpus=2)
    assert next(results) == 0
    gate.open()
    assert list(results) == [1]


def test_it_ends_with_break_and_its_workers_are_gone(tally):
    before = descendants()
    for number in imap(lambda number: tally.note(number) or number, itertools.count()):
        if number == 20:
            break
    assert descendants() <= before
    assert len(tally) >= 21


def test_an_exception_in_the_loop_ends_the_run():
    def fail():
        for _ in doubling(itertools.count()):
            raise KeyError

    before = descendants()
    with pytest.raises(KeyError):
        fail()
    wait_until(lambda: descendants() <= before, "the end of the workers")


def test_closing_ends_the_run():
    before = descendants()
    with closing(doubling(itertools.count()).results()) as results:
        assert next(results) % 2 == 0
    assert descendants() <= before
    assert list(results) == []


def test_workers_pause_while_results_are_not_taken(counter):
    def count(number):
        time.sleep(0.001)
        counter.value += 1
        return number

    with closing(imap(count, itertools.count(), buffer=10, cpus=1)) as results:
        assert next(results) == 0
        assert counter.settled(2000) < 2000
        assert list(itertools.islice(results, 3000)) == list(range(1, 3001))


def test_in_a_job_results_are_there_at_once():
    assert job_stream.map(lambda number: sum(doubling(range(number))), [3, 4]) == [6, 12]


# --- imap -------------------------------------------------------------------------------------------------------------
def test_imap_is_ordered_unless_told_otherwise(gate):
    def first_waits(number):
        if number == 0:
            gate.wait()
        return number

    with closing(imap(first_waits, range(100), ordered=False, cpus=2)) as results:
        assert next(results) > 0
        gate.open()
        assert sorted(results)[0] == 0
    assert list(imap(first_waits, range(100), cpus=2)) == list(range(100))


def test_imap_takes_several_sequences():
    assert list(imap(lambda a, b: a + b, [1, 2, 3], itertools.count(10))) == [11, 13, 15]


def test_an_exception_comes_where_its_result_would_have():
    results = imap(lambda number: 1 // number, [1, 0], cpus=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError) as raised:
        next(results)
    assert isinstance(raised.value.__cause__, StageError)


# --- mistakes ---------------------------------------------------------------------------------------------------------
def test_results_that_go_to_a_function_are_not_iterated_over():
    w = doubling([1])

    @w.result
    def show(number):
        pass

    with pytest.raises(PlanError, match="its results go to 'show'"):
        iter(w)
    w.run()


def test_one_iteration_at_a_time():
    w = doubling(range(10))
    with closing(w.results()), pytest.raises(PlanError, match="already"):
        w.results()
    assert len(list(w)) == 10


def test_an_ordered_iteration_has_no_checkpoints(tmp_path):
    with pytest.raises(PlanError, match="ordered=False"):
        imap(abs, [1], checkpointFile=tmp_path / "checkpoint")


@pytest.mark.parametrize("buffer", [0, 1.5, True])
def test_a_buffer_that_makes_no_sense_is_refused(buffer):
    with pytest.raises(PlanError, match="buffer"):
        imap(abs, [1], buffer=buffer)
    with pytest.raises(TypeError, match="two arguments"):
        imap(abs)


# --- async for --------------------------------------------------------------------------------------------------------
def test_async_for_gives_the_same():
    async def all_of(results):
        return [result async for result in results]

    assert asyncio.run(all_of(aimap(abs, [-1, 2, -3]))) == [1, 2, 3]
    assert sorted(asyncio.run(all_of(doubling(range(5))))) == [0, 2, 4, 6, 8]


def test_the_event_loop_goes_on_meanwhile(gate):
    async def first():
        async for result in aimap(lambda number: gate.wait() or number, [7]):
            return result

    async def both():
        waiting = asyncio.ensure_future(first())
        await asyncio.sleep(0)
        gate.open()
        return await waiting

    assert asyncio.run(both()) == 7


def test_cancelling_the_task_ends_the_run(tally):
    async def endless():
        async for _ in aimap(lambda number: tally.note(number) or signal.pause(), itertools.count()):
            pass

    async def cancelled():
        task = asyncio.ensure_future(endless())
        while not len(tally):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = descendants()
    asyncio.run(cancelled())
    assert descendants() <= before


def test_break_ends_the_run_of_an_async_for():
    async def broken():
        async for number in aimap(abs, itertools.count()):
            if number == 5:
                break

    asyncio.run(broken())
    names = lambda: [thread.name for thread in threading.enumerate()]  # noqa: E731
    wait_until(lambda: not any(name.startswith("job_stream-results") for name in names()), "the end of the thread")


# --- ranks ------------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed")
def test_other_ranks_take_part_and_find_no_results(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent("""
        import itertools
        from job_stream import Work, getRank, imap, map

        w = Work(range(100))
        w.job(lambda number: number + 1)
        print(getRank(), sum(w), flush=True)
        for number in imap(abs, itertools.count()):
            if number == 5:
                print(getRank(), "broke", map(abs, [-2]), flush=True)
                break
        print(getRank(), map(abs, [-3]), flush=True)
    """))
    ended = mpirun(path, 2, env={"JOBS_CPUS": "1"})
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.splitlines()) == ["0 5050", "0 [3]", "0 broke [2]", "1 0", "1 None"]
