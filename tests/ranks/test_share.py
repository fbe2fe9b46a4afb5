"""One value for all ranks, and which machines there are."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from mpi_support import World, find_mpirun, is_open_mpi, mpirun
from support import Gate

import job_stream
from job_stream import getCpuCount, hosts, share
from job_stream.errors import JobStreamError

needs_ranks = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)


def test_without_ranks_a_shared_value_is_the_value():
    value = object()
    assert share(value) is value


def test_in_a_job_a_shared_value_is_the_value():
    assert sorted(job_stream.map(lambda x: share(x) + 1, [1, 2])) == [2, 3]


def test_without_ranks_there_is_one_host():
    (host,) = hosts()
    assert (host.name, host.cpus, host.ranks) == (socket.gethostname(), getCpuCount(), (0,))
    assert 0 < host.memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_hosts_are_not_asked_for_in_a_job():
    with pytest.raises(JobStreamError, match="works in the script, not in its jobs"):
        job_stream.map(lambda x: hosts(), [1])


SHARES = """
    import numpy, threading
    from job_stream import Work, getRank, hosts, share
    from job_stream.errors import PayloadError

    rank = getRank()

    def doubled():
        w = Work([1, 2, 3])
        w.job(lambda x: 2 * x)
        return sorted(w.run() or [])

    found = [share({"sizes": numpy.arange(5_000_000)} if rank == 0 else None)["sizes"].sum() == 12499997500000]
    found.append(share(rank) == 0)
    found.append(doubled() == ([2, 4, 6] if rank == 0 else []))
    try:
        share(threading.Lock() if rank == 0 else 1)
    except PayloadError as error:
        found.append("lock" in str(error))
    found.append(share(("after", rank)) == ("after", 0))
    found.append(doubled() == ([2, 4, 6] if rank == 0 else []))
    (host,) = hosts()
    found.append(host.ranks == (0, 1, 2) and host.cpus >= 3 and host.memory > 0)
    print(rank, all(found) and len(found), found)
"""


@needs_ranks
@pytest.mark.parametrize("ulfm", [True, False], ids=["survivable", "not survivable"])
def test_all_ranks_have_the_value_of_the_primary(script, ulfm):
    ended = mpirun(script(SHARES), 3, ulfm=ulfm)
    assert ended.code == 0, ended.err
    assert sorted(line[:3] for line in ended.out.splitlines()) == ["0 7", "1 7", "2 7"], ended.out


PARTS = """
    import sys
    from job_stream import Work, getRank, share

    if getRank() == int(sys.argv[1]):
        share(1)
    else:
        w = Work([1])
        w.job(abs)
        w.run()
"""


@needs_ranks
@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_of_which_one_shares_and_one_runs_a_stream_are_told_so(script, rank):
    ended = mpirun(script(PARTS), 2, rank)
    assert ended.code != 0
    assert "PlanError: the ranks run different streams: stage number 1 is" in ended.err
    assert "call of 'share' on rank" in ended.err


WAITS = """
    import sys
    from pathlib import Path
    from job_stream import getRank, share
    from support import Gate

    share(0)
    if getRank() == 0:
        Gate(Path(sys.argv[1])).open()
        Gate(Path(sys.argv[1] + ".never")).wait()
    share(0)
"""


@needs_ranks
def test_ranks_that_wait_for_a_value_are_told_of_the_death_of_the_primary(script, tmp_path):
    path, gate = script(WAITS), Gate(tmp_path / "gate")
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with World(path, 2, gate.path, ulfm=True, env={"PYTHONPATH": f"{os.path.dirname(tests)}:{tests}"}) as world:
        gate.wait()
        os.kill(world.pids()[0], signal.SIGKILL)
        ended = world.ended()  # with the code of mpirun, which knows of no error where a death is survived
    assert "WorldError: rank 0 on" in ended.err
