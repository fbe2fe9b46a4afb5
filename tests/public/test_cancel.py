"""A run that is cancelled: from a thread, a result function, a signal handler, another rank."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from pathlib import Path

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun
from support import REPOSITORY, Gate, wait_until

from job_stream import Work
from job_stream.errors import JobStreamError

needs_ranks = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)


def blocked(gate: Gate, begun: Gate, **keywords) -> Work:
    """A stream that never ends by itself."""
    w = Work([1, 2], **keywords)

    @w.job
    def wait(x):
        begun.open()
        gate.wait()

    return w


@pytest.fixture
def begun(tmp_path):
    return Gate(tmp_path / "begun")


@pytest.mark.parametrize("processes", [True, False])
def test_another_thread_ends_a_run(gate, begun, processes):
    w = blocked(gate, begun, useMultiprocessing=processes)
    answers = []

    def cancel():
        begun.wait()
        answers.append(w.cancel())
        gate.open()  # threads cannot be ended by force

    thread = threading.Thread(target=cancel)
    thread.start()
    assert w.run() is None
    thread.join()
    assert answers == [True]


def test_a_result_function_ends_a_run_and_is_not_called_again():
    w, seen = Work(itertools.count()), []
    w.job(lambda x: x)

    @w.result
    def first(x):
        seen.append(x)
        w.cancel()

    assert w.run() is None
    assert len(seen) == 1


def test_finish_is_not_called_in_a_run_that_is_cancelled(gate, begun):
    w, seen = blocked(gate, begun), []
    w.finish(seen.append)
    thread = threading.Thread(target=lambda: (begun.wait(), w.cancel()))
    thread.start()
    assert w.run() is None
    thread.join()
    assert seen == []


def test_a_handler_of_the_script_ends_a_run_though_the_signal_is_sent_to_all_processes(start, tmp_path):
    script = start("""
        import os, signal, sys, time
        from job_stream import Work

        w, seen = Work([1, 2], cpus=2), []
        begun, go = sys.argv[1:]

        @w.job
        def wait(x):
            while not os.path.exists(go):
                open(f"{begun}.{x}", "w").close()
                time.sleep(0.01)

        signal.signal(signal.SIGTERM, lambda *_: w.cancel())
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, _: seen.append(number))
        print(w.run(), len(seen), flush=True)
    """, tmp_path / "begun", tmp_path / "go")  # fmt: skip
    both = [tmp_path / "begun.1", tmp_path / "begun.2"]
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        for each in both:
            each.unlink(missing_ok=True)
        wait_until(lambda: all(map(Path.exists, both)), "the jobs to go on")
        os.killpg(script.pid, number)
    for each in both:
        each.unlink(missing_ok=True)
    wait_until(lambda: all(map(Path.exists, both)), "the jobs to go on")
    os.killpg(script.pid, signal.SIGTERM)
    ended = script.ended()
    assert (ended.code, ended.out, ended.err) == (0, "None 3\n", "")
    assert not script.living()


def test_a_stream_that_was_cancelled_can_be_run_again():
    w, once = Work(range(100)), iter([True])
    w.job(lambda x: x)
    seen = []

    @w.result
    def keep(x):
        seen.append(x)
        if next(once, False):
            w.cancel()

    w.run()
    seen.clear()
    w.run()
    assert sorted(seen) == list(range(100))


def test_where_nothing_runs_nothing_is_cancelled():
    w = Work([1])
    w.job(abs)
    assert w.cancel() is False
    assert w.run() == [1]
    assert w.cancel() is False


def test_a_job_is_told_how_it_ends_a_run():
    w = Work([1])
    w.job(lambda x: w.cancel())
    with pytest.raises(JobStreamError, match="raise an exception to end the run"):
        w.run()


def test_a_run_goes_on_from_the_checkpoint_of_one_that_was_cancelled(tmp_path):
    path, seen = tmp_path / "checkpoint", []

    def stream(stop: bool) -> Work:
        w = Work(range(50), checkpointFile=path)
        w.job(lambda x: x)

        @w.result
        def keep(x):
            seen.append(x)
            if stop:
                w.cancel()

        return w

    assert stream(stop=True).run() is None
    stream(stop=False).run()
    assert sorted(seen) == list(range(50))


def test_a_signal_handler_ends_a_run(start, tmp_path):
    script = start(
        """
        import itertools, os, signal
        from job_stream import Work
        w = Work(itertools.count())
        w.job(lambda x: x)
        signal.signal(signal.SIGUSR2, lambda number, frame: w.cancel())
        seen = []

        @w.result
        def result(x):
            if not seen:
                os.kill(os.getpid(), signal.SIGUSR2)
            seen.append(x)

        print(w.run())
        """
    )
    ended = script.ended()
    assert (ended.code, ended.out) == (0, "None\n"), ended.err


RANKS = """
    import itertools, sys, threading
    from pathlib import Path
    from job_stream import Work, getRank
    from support import Gate

    begun = Gate(Path(sys.argv[2]))
    w = Work(itertools.count())

    @w.job
    def wait(x):
        begun.open()

    if getRank() == int(sys.argv[1]):
        threading.Thread(target=lambda: (begun.wait(), w.cancel())).start()
    found = [w.run()]
    w = Work([1, 2])
    w.job(abs)
    print(getRank(), *found, sorted(w.run() or []), flush=True)
"""


@needs_ranks
@pytest.mark.parametrize("rank", [0, 1])
def test_any_rank_cancels_a_run_for_all(script, tmp_path, rank):
    support = REPOSITORY / "tests"
    ended = mpirun(script(RANKS), 2, rank, tmp_path / "begun", env={"PYTHONPATH": f"{REPOSITORY}:{support}"})
    assert ended.code == 0, ended.err
    assert sorted(ended.out.splitlines()) == ["0 None [1, 2]", "1 None []"]
