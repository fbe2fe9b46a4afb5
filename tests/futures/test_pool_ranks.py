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
