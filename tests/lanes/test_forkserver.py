"""Workers from the fork server: what they have, what cannot be sent, and that no lock of the script gets to them."""

from __future__ import annotations

import os
import signal

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun
from support import QUIET, wait_until

from job_stream import Work
from job_stream.errors import PlanError

STREAMS = 200


def said(start, text: str, *arguments) -> str:
    """What a script prints; it is to end by itself, and to leave nothing behind."""
    script = start(text, *arguments)
    ended = script.ended()
    assert (ended.code, ended.err) == (0, ""), ended.err
    wait_until(lambda: not script.living(), "all processes to end")
    return ended.out


def test_locks_of_the_script_are_not_held_in_workers(start, tmp_path):
    (tmp_path / "shared.py").write_text("import threading\nlock = threading.Lock()\n")
    out = said(start, f"""
        import logging, random, threading, time
        import job_stream, shared

        shared.lock.acquire()  # for ever: a worker that was forked from here would never get it
        is_over = threading.Event()

        def disturb():
            other = threading.Lock()
            while not is_over.is_set():
                with other, logging._lock:
                    random.random()
                    time.sleep(1e-4)

        threads = [threading.Thread(target=disturb) for _ in range(8)]
        for thread in threads:
            thread.start()

        def job(x):
            with shared.lock:
                logging.getLogger("job").debug("%d", x)
                return x + 1

        right = [job_stream.map(job, [1, 2, 3], cpus=1, startMethod="forkserver") for _ in range({STREAMS})]
        is_over.set()
        print(len(right), right.count([2, 3, 4]))
    """)  # fmt: skip
    assert out == f"{STREAMS} {STREAMS}\n"


def test_what_the_script_defines_is_there_in_workers(start):
    out = said(start, """
        import os, sys
        from collections import namedtuple
        import job_stream
        from job_stream import Multiple, Object, Work, getRank

        FACTOR = 7
        Pair = namedtuple("Pair", "a b")

        class Point:
            def __init__(self, x):
                self.x = x

        class Odd(Exception):
            pass

        def helper(x):
            return x * FACTOR

        def run(work, job, **keywords):
            w = Work(work, cpus=2, startMethod="forkserver", **keywords)
            w.job(job)
            return w.run()

        print(job_stream.map(lambda x: helper(x) + 1, range(3), startMethod="forkserver"))
        points = run([Point(1), Point(2)], lambda p: Point(10 * p.x) if type(p) is Point else None)
        print(sorted(p.x for p in points), {type(p) is Point for p in points})
        print(run((Pair(n, n) for n in range(1)), lambda p: p), type(run([Pair(1, 2)], lambda p: p)[0]) is Pair)

        def inner():
            class Local:
                pass
            kinds = {type(each) is Local for each in run([1, 2], lambda x: Local())}
            return kinds, run([Local()], lambda x: type(x) is Local)

        print(*inner())

        def raises(x):
            raise Odd(x)

        try:
            run([1], raises)
        except Odd as error:
            print("odd", error.args, "raise Odd(x)" in str(error.__cause__))

        w = Work([10, 1000], startMethod="forkserver")

        @w.frame(store=lambda: Object(rounds=0, total=0), emit=lambda store: (store.rounds, store.total))
        def untilEnough(store, limit):
            if store.total < limit:
                store.rounds += 1
                return Multiple(range(store.rounds))

        @w.job
        def square(number):
            return number**2

        @w.frameEnd
        def add(store, number):
            store.total += number

        print(sorted(w.run()))
        os.environ["SOME"] = "thing"
        os.chdir("/")
        print(run([1], lambda x: (os.environ["SOME"], os.getcwd(), sys.argv[1:], getRank())))
    """, "word")  # fmt: skip
    assert out.splitlines() == [
        "[1, 8, 15]",
        "[10, 20] {True}",
        "[Pair(a=0, b=0)] True",
        "{True} [True]",
        "odd (1,) True",
        "[(4, 20), (11, 1210)]",
        "[('thing', '/', ['word'], 0)]",
    ]


def test_what_workers_print_comes_to_where_the_script_prints(start):
    out = said(start, """
        import io, sys
        import job_stream

        def show(x):
            print("line", x)

        job_stream.map(show, [1], startMethod="forkserver")
        real, sys.stdout = sys.stdout, io.StringIO()
        job_stream.map(show, [2], startMethod="forkserver")
        real.write(f"kept {sys.stdout.getvalue()}")
    """)  # fmt: skip
    assert out == "line 1\nkept line 2\n"


def test_a_worker_or_the_server_that_dies_is_replaced(start):
    out = said(start, """
        import os, signal
        from pathlib import Path
        from job_stream import Work
        from job_stream.lanes import starting

        def run():
            w = Work(range(4), cpus=2, startMethod="forkserver")

            @w.job
            def job(x):
                if x == 2 and not Path("died").exists():
                    Path("died").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return x

            return sorted(w.run())

        print(run())
        server = starting._server._process
        server.kill()
        server.wait()
        print(run(), server is not starting._server._process)
    """)  # fmt: skip
    assert out == "[0, 1, 2, 3]\n[0, 1, 2, 3] True\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_script(start, tmp_path, number):
    script = start("""
        import sys, time
        from pathlib import Path
        import job_stream

        def block(x):
            Path(f"{sys.argv[1]}.{x}").touch()
            time.sleep(1000)

        job_stream.map(block, [1, 2], cpus=2, startMethod="forkserver")
    """, tmp_path / "begun")  # fmt: skip
    wait_until(lambda: all((tmp_path / f"begun.{n}").exists() for n in (1, 2)), "the jobs to begin")
    os.kill(script.pid, number)
    assert script.ended().code == -number
    wait_until(lambda: not script.living(), "all processes to end")


def test_a_server_that_is_killed_while_a_stream_runs_ends_it_with_an_error(start):
    out = said(start, """
        import threading, time
        from pathlib import Path
        import job_stream
        from job_stream.errors import EngineError
        from job_stream.lanes import starting

        def block(x):
            Path("begun").touch()
            time.sleep(1000)

        def kill():
            while not Path("begun").exists():
                time.sleep(0.01)
            starting._server._process.kill()

        threading.Thread(target=kill).start()
        try:
            job_stream.map(block, [1], startMethod="forkserver")
        except EngineError as error:
            print("is gone" in str(error))
    """)  # fmt: skip
    assert out == "True\n"


def test_what_cannot_be_sent_is_named(start):
    out = said(start, """
        import sys, threading, types
        import job_stream
        from job_stream import Work
        from job_stream.errors import PlanError

        lock = threading.Lock()

        def uses_lock(x):
            with lock:
                return x

        def fine(x):
            return x

        def tell(run):
            try:
                run()
            except PlanError as error:
                print(error)

        w = Work([1], startMethod="forkserver")
        w.job(fine)
        w.reduce(store=lambda: lock)(lambda store, works, others: None)
        made = types.ModuleType("made")
        exec("def gone(x): return x", made.__dict__)
        sys.modules["made"], made.__file__ = made, "/nowhere/made.py"

        tell(lambda: job_stream.map(uses_lock, [1], startMethod="forkserver"))
        tell(w.run)
        tell(lambda: job_stream.map(fine, [lock], startMethod="forkserver"))
        tell(lambda: job_stream.map(made.gone, [1], startMethod="forkserver"))
        print(job_stream.map(fine, [1], startMethod="forkserver"), "though main has", uses_lock.__name__)
    """)  # fmt: skip
    lines = out.splitlines()
    assert "stage 'uses_lock' cannot be sent: cannot pickle '_thread.lock'" in lines[0]
    assert "Work(startMethod='fork')" in lines[0]
    assert "store= of stage" in lines[1]
    assert "the initial work cannot be sent" in lines[2]
    assert "could not be had: ModuleNotFoundError: No module named 'made'" in lines[3]
    assert lines[4] == "[1] though main has uses_lock"


def test_executors_start_as_the_environment_says(start, monkeypatch):
    monkeypatch.setenv("JOBS_START", "forkserver")
    out = said(start, """
        from job_stream.futures import Executor
        from job_stream.lanes import starting

        with Executor(2) as executor:
            print(sum(executor.map(lambda x: x * x, range(10))), starting._server._process is not None)
    """)  # fmt: skip
    assert out == "285 True\n"


@pytest.mark.skipif(find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed")
def test_on_two_ranks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from job_stream import Work, getRank\n"
        "w = Work(range(40), cpus=1)\n"
        "@w.job\n"
        "def rank(x):\n"
        "    time.sleep(0.01)\n"
        "    return getRank()\n"
        "got = w.run()\n"
        "print(sorted(set(got)), len(got)) if getRank() == 0 else None\n"
    )
    ended = mpirun(script, 2, env={**QUIET, "JOBS_START": "forkserver"})
    assert (ended.code, ended.out) == (0, "[0, 1] 40\n"), ended.err


def test_other_methods_are_refused(monkeypatch):
    with pytest.raises(PlanError, match=r"startMethod must be 'fork' or 'forkserver', or None, not 'spawn'"):
        Work([1], startMethod="spawn")  # type: ignore[arg-type]
    monkeypatch.setenv("JOBS_START", "spawn")
    w = Work([1])
    w.job(abs)
    with pytest.raises(PlanError, match="JOBS_START must be fork or forkserver, not 'spawn'"):
        w.run()


