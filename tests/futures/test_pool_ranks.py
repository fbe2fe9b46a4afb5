"""A pool on several ranks, as scripts for schwimmbad are written."""

from __future__ import annotations

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun

pytestmark = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)

SCRIPT = """
import sys
from job_stream import Pool, getRank

pool = Pool()
if not pool.is_master():
    pool.wait()
    print("served", getRank(), flush=True)
    sys.exit(0)
print(pool.map(lambda number: number + 1, range(4)), pool.size, flush=True)
pool.close()
pool.join()
"""


def test_other_ranks_wait_and_take_part(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    ended = mpirun(path, 2, env={"JOBS_CPUS": "1"})
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.splitlines()) == ["[1, 2, 3, 4] 2", "served 1"]


REPLACED = """
import os, sys, time
from pathlib import Path
from job_stream import Pool, getRank

folder = Path(__file__).parent

def meet(number):
    (folder / str(number)).touch()
    end = time.monotonic() + 100
    while number < 2 and not (folder / str(1 - number)).exists():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)
    return getRank(), os.getpid()

with Pool(maxtasksperchild=3) as pool:
    if pool is not None:
        calls = pool.map(meet, range(30))
        pids = [pid for _, pid in calls]
        print(sorted({rank for rank, _ in calls}), max(map(pids.count, pids)) <= 3, flush=True)
"""


def test_workers_are_replaced_after_so_many_calls_on_all_ranks(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(REPLACED)
    ended = mpirun(path, 2, env={"JOBS_CPUS": "1"})
    assert (ended.code, ended.out, ended.err) == (0, "[0, 1] True\n", "")
