"""Executors on several ranks: calls are made on all of them, and the others take part or serve."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from meeting import MEETING, ONE_LANE, write
from mpi_support import World, find_mpirun, is_open_mpi, mpirun, pythons
from support import wait_until

pytestmark = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)
MET = """
import numpy as np
import job_stream

def met(executor, name=""):
    names = [f"{name}{number}" for number in range(2)]
    return sorted(future.result() for future in [executor.submit(meet, own, names) for own in names])
"""


@pytest.mark.parametrize("python", pythons())
def test_the_others_get_none_when_they_have_taken_part(tmp_path, python):
    path = write(tmp_path, MEETING, MET, """
        with Executor() as executor:
            if executor is not None:
                print(met(executor), executor.num_workers, flush=True)
            else:
                print("served", getRank(), flush=True)
    """)
    ended = mpirun(path, 2, env=ONE_LANE, python=python)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.splitlines()) == ["[0, 1] 2", "served 1"]


def test_without_with_the_others_are_told_both_ways(tmp_path):
    path = write(tmp_path, MEETING, MET, """
        executor = Executor()
        try:
            if getRank():
                executor.submit(pow, 2, 3)
        except job_stream.errors.WorldError as error:
            print(error, flush=True)
        with executor as mine:
            pass
    """)
    ended = mpirun(path, 2, env=ONE_LANE)
    assert ended.code == 0
    for way in ("with Executor() as executor", "python -m job_stream.futures script.py"):
        assert way in ended.out


def test_a_script_that_runs_on_rank_0_alone_is_served_until_it_ends(tmp_path):
    path = write(tmp_path, MEETING, MET, """
        print(__name__, getRank(), sys.argv[1:], flush=True)

        def local(number):
            return number + 1

        with Executor() as executor:
            print(met(executor), flush=True)
            big = np.ones(1 << 18)
            print({executor.submit(np.sum, big).result() for _ in range(5)}, flush=True)
        print(job_stream.map(local, [1, 2]), flush=True)
        executor = Executor()
        print(met(executor, "again"), flush=True)
        executor.submit(print, "last", flush=True)
    """)
    ended = mpirun(write_starter(tmp_path), 2, path, "--word", env=ONE_LANE)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "__main__ 0 ['--word']", "[0, 1]", "{np.float64(262144.0)}", "[2, 3]", "[0, 1]", "last",
    ]  # fmt: skip


def write_starter(folder):
    """What ``python -m job_stream.futures`` runs, for a launcher of scripts."""
    starter = folder / "starter.py"
    starter.write_text(
        "import runpy, sys\nrunpy.run_module('job_stream.futures', run_name='__main__', alter_sys=True)\n"
    )
    return starter


def test_a_second_executor_waits_for_the_first(tmp_path):
    path = write(tmp_path, MEETING, MET, """
        first, second = Executor(), Executor()
        waiting = second.submit(getRank)
        print(met(first), waiting.done(), flush=True)
        first.shutdown()
        print(met(second, "second"), waiting.result() in (0, 1), flush=True)
    """)
    ended = mpirun(write_starter(tmp_path), 2, path, env=ONE_LANE)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == ["[0, 1] False", "[0, 1] True"]


def test_terminate_lets_the_others_go_on(tmp_path):
    path = write(tmp_path, MEETING, MET, """
        import signal
        with Executor() as executor:
            if executor is not None:
                calls = [executor.submit(signal.pause) for _ in range(10)]
                met  # all of it is dropped
                executor.terminate()
                print({future.done() for future in calls}, flush=True)
        print(sorted(job_stream.map(abs, [1, -2]) or []), flush=True)
    """)
    ended = mpirun(path, 2, env=ONE_LANE)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.splitlines()) == ["[1, 2]", "[]", "{True}"]


def test_a_script_that_fails_ends_all_ranks(tmp_path):
    path = write(tmp_path, MEETING, MET, """
        with Executor() as executor:
            met(executor)
        raise ValueError("the script's own")
    """)
    ended = mpirun(write_starter(tmp_path), 2, path, env=ONE_LANE)
    assert ended.code != 0
    assert "the script's own" in ended.err


@pytest.mark.skipif(sys.platform != "linux", reason="needs ULFM")
def test_calls_go_on_where_a_rank_has_died(tmp_path):
    path = write(tmp_path, MEETING, MET, """
        with Executor() as executor:
            if executor is None:
                sys.exit()
            print(met(executor), flush=True)
            (folder / "begun").touch()
            calls = [executor.submit(time.sleep, 0.01) for _ in range(300)]
            print({future.result() for future in calls}, executor.submit(getRank).result(), flush=True)
    """)
    with World(path, 2, ulfm=True, env=ONE_LANE) as world:
        wait_until((tmp_path / "begun").exists, "the first calls")
        os.kill(world.pids()[1], signal.SIGKILL)
        ended = world.ended()
    assert ended.out.splitlines() == ["[0, 1]", "{None} 0"]
