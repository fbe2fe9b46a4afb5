"""``Executor``: what the documentation of ``concurrent.futures`` promises, and what is more here."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest
from support import DEADLINE_S, die, wait_until

import job_stream
from job_stream import rng
from job_stream.errors import LaneDied, PayloadError, PlanError, StageError, StageTimeout
from job_stream.futures import Executor, as_completed, wait
from job_stream.memory import volumes

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Wrong(Exception):
    def __init__(self, number: int, *, why: str) -> None:
        super().__init__(f"{number}: {why}")
        self.number = number


class Killer:
    """Ends whoever unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


class Bomb:
    """Raises where it is unpickled."""

    def __reduce__(self):
        return int, ("no number",)


def is_volume(file):
    """Whether a descriptor is that of a volume, whose name has a number of 32 digits."""
    try:
        return re.match(r"/memfd:job_stream-[0-9a-f]{32}\b", str(file.readlink())) is not None
    except OSError:
        return False


def square(number):
    return number * number


@pytest.fixture
def executor():
    with Executor(2) as executor:
        yield executor


# --- calls ------------------------------------------------------------------------------------------------------------
def test_a_call_gives_a_future_of_the_standard_library(executor):
    future = executor.submit(pow, 2, 8)
    assert type(future) is futures.Future
    assert future.result() == 256


def test_lambdas_closures_and_keywords_travel(executor):
    ten = 10
    assert executor.submit(lambda a, *, b: a + b + ten, 1, b=2).result() == 13


def test_calls_are_made_in_other_processes_and_at_the_same_time(executor, tmp_path):
    def meet(own, other):
        (tmp_path / own).touch()
        wait_until((tmp_path / other).exists, "the other call")
        return os.getpid()

    first, second = executor.submit(meet, "a", "b"), executor.submit(meet, "b", "a")
    assert len({first.result(), second.result(), os.getpid()}) == 3


def test_calls_may_be_submitted_from_many_threads(executor):
    sums = {}

    def submit(number):
        sums[number] = sum(executor.submit(square, i).result() for i in range(number, number + 20))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == {number: sum(i * i for i in range(number, number + 20)) for number in range(4)}


def test_a_function_that_is_defined_anew_is_the_new_one(executor):
    def make(text):
        def say():
            return text

        return say

    assert [executor.submit(make(text)).result() for text in ("old", "new")] == ["old", "new"]


def test_arguments_are_as_they_were_when_they_were_submitted(executor, gate):
    holding = [executor.submit(gate.wait) for _ in range(4)]
    values, array = [1], np.zeros(1 << 18)
    waiting = [executor.submit(sum, values), executor.submit(np.sum, array)]
    values.append(2)
    array += 1
    gate.open()
    assert [future.result() for future in waiting] == [1, 0]
    assert [future.result() for future in holding] == [None] * 4
    assert executor.submit(np.sum, array).result() == array.size


def test_what_a_method_does_to_its_object_is_not_seen_by_the_next_call(executor):
    class Count:
        value = 0

        def up(self):
            self.value += 1
            return self.value

    assert [executor.submit(Count().up).result() for _ in range(4)] == [1] * 4


# --- large arguments --------------------------------------------------------------------------------------------------
def test_a_large_array_lies_in_memory_once_for_all_calls_that_are_given_it(executor, gate):
    array = np.arange(1 << 18, dtype=float)
    running = [executor.submit(lambda a: (gate.wait(), a.sum())[1], array) for _ in range(6)]
    kept = [file for file in Path("/proc/self/fd").iterdir() if is_volume(file)]
    gate.open()
    assert [future.result() for future in running] == [array.sum()] * 6
    assert len(kept) == 1


def test_nobody_sees_what_a_call_does_to_its_large_array(executor):
    array = np.zeros((512, 512), order="F")

    def fill(values):
        assert not values.any()
        assert values.flags.f_contiguous
        assert values.shape == (512, 512)
        values += 1
        return values.sum()

    assert [executor.submit(fill, array).result() for _ in range(4)] == [array.size] * 4
    assert not array.any()


def test_a_large_array_that_cannot_be_opened_travels(executor, monkeypatch):
    original = volumes.Volume.__init__

    def hidden(self, data):
        original(self, data)
        self.address = self.address._replace(name="job_stream-another")

    monkeypatch.setattr(volumes.Volume, "__init__", hidden)
    array = np.ones(1 << 18)
    assert [executor.submit(np.sum, array).result() for _ in range(3)] == [array.size] * 3


# --- ends -------------------------------------------------------------------------------------------------------------
def test_an_exception_is_the_one_of_the_function_with_its_story_as_cause(executor):
    def fail(number):
        raise Wrong(number, why="odd")

    with pytest.raises(Wrong, match="7: odd") as raised:
        executor.submit(fail, 7).result()
    assert raised.value.number == 7
    cause = raised.value.__cause__
    assert isinstance(cause, StageError)
    assert ("fail" in cause.stage, cause.item) == (True, "7")
    assert "why=" in cause.traceback
    assert "job_stream/futures" not in cause.traceback


def test_a_call_that_ends_the_process_with_sys_exit_does_not_end_the_script(executor):
    with pytest.raises(StageError, match="SystemExit"):
        executor.submit(sys.exit, 3).result()


def test_what_cannot_travel_costs_one_call(executor):
    lock = threading.Lock()
    with pytest.raises(PayloadError, match="argument of square"):
        executor.submit(square, lock).result()
    with pytest.raises(PayloadError, match="cannot be pickled"):
        executor.submit(lambda: lock.acquire()).result()
    with pytest.raises(PayloadError, match=r"returned cannot be pickled"):
        executor.submit(threading.Lock).result()
    with pytest.raises(PayloadError, match=r"returned cannot be unpickled"):
        executor.submit(Bomb).result()
    with pytest.raises(ValueError, match="no number"):
        executor.submit(square, Bomb()).result()
    assert executor.submit(square, 2).result() == 4


def test_a_call_that_ends_its_worker_is_made_three_times_and_the_executor_goes_on(executor, tally):
    def fatal():
        tally.note(1)
        die()

    with pytest.raises(LaneDied, match=r"fatal"):
        executor.submit(fatal).result()
    assert len(tally) == 3
    with pytest.raises(LaneDied):
        executor.submit(square, Killer()).result()
    assert executor.submit(square, 3).result() == 9


def test_a_call_whose_worker_is_killed_is_made_again(executor, once):
    def killed_once():
        if once():
            die()
        return "there"

    assert executor.submit(killed_once).result() == "there"


def test_innocent_calls_survive_a_neighbour_that_kills(executor):
    def call(number):
        return die() if number == 25 else square(number)

    calls = [executor.submit(call, number) for number in range(50)]
    assert [future.result() for number, future in enumerate(calls) if number != 25] == [
        i * i for i in range(50) if i != 25
    ]
    assert isinstance(calls[25].exception(), LaneDied)


def test_a_call_that_takes_too_long_is_ended():
    with Executor(2, timeout=0.5) as executor:
        with pytest.raises(StageTimeout, match=r"0\.5 s"):
            executor.submit(signal.pause).result()
        assert executor.submit(square, 3).result() == 9


def test_a_call_that_raised_is_repeated(once):
    def fails_once():
        if once():
            raise ValueError("once")
        return "there"

    with Executor(1, retries=1) as executor:
        assert executor.submit(fails_once).result() == "there"
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()


def test_rng_in_a_call_depends_on_the_seed_and_the_order_of_submission_only():
    def draw(_):
        return rng().integers(1 << 60)

    def drawn(workers):
        with Executor(workers, seed=3) as executor:
            return list(executor.map(draw, range(20)))

    assert drawn(1) == drawn(2)
    assert len(set(drawn(2))) == 20


# --- map --------------------------------------------------------------------------------------------------------------
def test_map_is_ordered_and_ends_with_the_shortest(executor):
    assert list(executor.map(pow, [2, 3, 4], [3, 2])) == [8, 9]


def test_map_takes_endless_iterables(executor):
    def numbers():
        number = 0
        while True:
            yield number
            number += 1

    squares = executor.map(square, numbers())
    assert [next(squares) for _ in range(100)] == [i * i for i in range(100)]
    squares.close()


def test_map_takes_no_more_than_the_buffer_ahead(executor):
    taken = []

    def numbers():
        for number in range(100):
            taken.append(number)
            yield number

    results = executor.map(square, numbers(), buffersize=3)
    assert len(taken) == 3
    assert next(results) == 0
    assert len(taken) == 3
    assert next(results) == 1
    assert len(taken) == 4
    results.close()


def test_map_makes_calls_whose_results_nobody_takes(tally):
    with Executor(2) as executor:
        executor.map(tally.note, range(30))
    assert sorted(tally.numbers()) == list(range(30))


def test_map_raises_where_the_result_would_have_been(executor):
    results = executor.map(divmod, [1, 1, 1], [2, 0, 5])
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_times_out(executor, gate):
    with pytest.raises(futures.TimeoutError):
        list(executor.map(lambda _: gate.wait(), [1], timeout=0.05))
    gate.open()


@pytest.mark.parametrize("wrong", [{"chunksize": 0}, {"buffersize": 0}])
def test_map_refuses_what_makes_no_sense(executor, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        executor.map(square, [1], **wrong)


# --- others that take executors ---------------------------------------------------------------------------------------
def test_wait_and_as_completed_are_those_of_the_standard_library(executor):
    assert (wait, as_completed) == (futures.wait, futures.as_completed)
    calls = [executor.submit(square, number) for number in range(10)]
    assert wait(calls).not_done == set()
    assert sorted(future.result() for future in as_completed(calls)) == [i * i for i in range(10)]


def test_asyncio_runs_calls_in_it(executor):
    async def gathered():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, square, number) for number in range(10)))

    assert asyncio.run(gathered()) == [i * i for i in range(10)]


def test_callbacks_may_submit_more(executor):
    more = futures.Future()

    def again(done):
        executor.submit(square, done.result()).add_done_callback(lambda last: more.set_result(last.result()))

    executor.submit(square, 3).add_done_callback(again)
    assert more.result(DEADLINE_S) == 81


def test_in_a_call_calls_are_made_at_once_in_the_same_process(executor):
    def nested():
        with Executor(4) as inner:
            calls = [inner.submit(os.getpid) for _ in range(3)]
            assert inner.num_workers == 1
            assert isinstance(inner.submit(divmod, 1, 0).exception(), ZeroDivisionError)
            return os.getpid(), {future.result() for future in calls}, list(inner.map(square, range(4)))

    own, others, squares = executor.submit(nested).result()
    assert (others, squares) == ({own}, [0, 1, 4, 9])


def test_streams_and_executors_may_be_under_way_at_the_same_time(executor):
    calls = [executor.submit(square, number) for number in range(50)]
    assert job_stream.map(square, range(50)) == [future.result() for future in calls]
    with Executor(1) as second:
        assert second.submit(square, 4).result() == executor.submit(square, 4).result()


# --- workers ----------------------------------------------------------------------------------------------------------
def test_the_initializer_runs_once_in_each_worker_before_its_first_call(tally):
    def initialise(name):
        tally.note(os.getpid())
        os.environ["NAME"] = name

    with Executor(2, initializer=initialise, initargs=("there",)) as executor:
        assert set(executor.map(lambda _: os.environ["NAME"], range(50))) == {"there"}
    assert len(set(tally.lines())) == len(tally) <= 2


def test_an_initializer_that_raises_breaks_the_executor():
    def fail():
        raise Wrong(3, why="never")

    executor = Executor(2, initializer=fail)
    calls = [executor.submit(square, number) for number in range(10)]
    for future in calls:
        with pytest.raises(futures.BrokenExecutor, match="initializer") as raised:
            future.result()
        assert isinstance(raised.value.__cause__, Wrong)
    with pytest.raises(futures.BrokenExecutor):
        executor.submit(square, 3)
    executor.shutdown()


def test_as_many_workers_as_wanted_are_told():
    with Executor(3) as executor:
        assert executor.num_workers == executor._max_workers == 3
    with Executor() as executor:
        assert executor.num_workers == job_stream.getHostCpuCount()


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_a_number_of_workers_that_makes_no_sense_is_refused(number):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        Executor(number)


def test_other_arguments_that_make_no_sense_are_refused():
    with pytest.raises(PlanError, match="retries"):
        Executor(retries=-1)
    with pytest.raises(PlanError, match="timeout"):
        Executor(timeout=0)
    with pytest.raises(TypeError, match="initializer"):
        Executor(initializer=3)


def test_a_checkpoint_that_the_environment_asks_for_is_not_for_calls(start, tmp_path, monkeypatch):
    monkeypatch.setenv("JOBS_CHECKPOINT", str(tmp_path / "checkpoint"))
    ended = start("""
        from job_stream.futures import Executor

        for _ in range(2):
            with Executor(1) as executor:
                print(executor.submit(pow, 3, 2).result())
    """).ended()
    assert ended.out.split() == ["9", "9"]
    assert ended.err == "job_stream: executors write no checkpoints; JOBS_CHECKPOINT is for streams\n"
    assert not (tmp_path / "checkpoint").exists()


# --- cancelling and ending --------------------------------------------------------------------------------------------
def test_a_call_that_no_worker_has_begun_can_be_cancelled(gate, tally):
    with Executor(1) as executor:
        running = executor.submit(gate.wait)
        waiting = [executor.submit(tally.note, number) for number in range(20)]
        assert not running.cancel() or running.cancelled()
        assert waiting[-1].cancel()
        gate.open()
    assert 19 not in tally.numbers()
    assert waiting[-1].cancelled()
    assert len(tally) == 20 - sum(future.cancelled() for future in waiting)


def test_shutdown_waits_for_what_was_submitted_and_takes_no_more(tally):
    executor = Executor(2)
    calls = [executor.submit(tally.note, number) for number in range(30)]
    executor.shutdown()
    assert all(future.done() for future in calls)
    assert len(tally) == 30
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 3)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(square, [3])
    executor.shutdown()


def test_shutdown_may_cancel_what_waits(gate):
    executor = Executor(1)
    calls = [executor.submit(gate.wait) for _ in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown()
    assert all(future.done() for future in calls)
    assert sum(future.cancelled() for future in calls) >= 15


def test_terminate_ends_at_once():
    executor = Executor(2)
    calls = [executor.submit(signal.pause) for _ in range(10)]
    executor.terminate()
    for future in calls:
        with pytest.raises(futures.CancelledError):
            future.result(0)


def test_shutdown_from_a_callback_does_not_wait_for_itself(executor):
    ended = threading.Event()

    def end(_):
        executor.shutdown()
        ended.set()

    executor.submit(square, 3).add_done_callback(end)
    assert ended.wait(DEADLINE_S)


def test_an_executor_that_is_forgotten_makes_its_calls_and_ends(tally):
    calls = [Executor(1).submit(tally.note, 1)]
    assert calls[0].result() is None
    names = lambda: [thread.name for thread in threading.enumerate()]  # noqa: E731
    wait_until(lambda: "job_stream-live" not in names(), "the end of the run")


def test_an_executor_is_of_no_use_in_a_process_that_was_forked(executor):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(square, 3)
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert "make one here" in told.read()


def test_at_the_end_of_the_script_all_that_was_submitted_is_done(start):
    ended = start("""
        import time
        from job_stream.futures import Executor

        def late(number):
            time.sleep(0.05)
            print(number, flush=True)

        executor = Executor(2)
        for number in range(10):
            executor.submit(late, number)
    """).ended()
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.split()) == sorted(map(str, range(10)))


def test_a_script_that_is_killed_leaves_nothing(start):
    script = start("""
        import signal
        from job_stream.futures import Executor

        executor = Executor(2)
        executor.submit(print, "there", flush=True).result()
        executor.submit(signal.pause)
        signal.pause()
    """)
    wait_until(lambda: "there" in script.out.read_text(), "the first call")
    script.process.kill()
    script.process.wait()
