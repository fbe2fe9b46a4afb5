"""The backend of joblib on several ranks, of which one may die."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from estimators import ESTIMATORS
from meeting import MEETING, ONE_LANE, write
from mpi_support import World, find_mpirun, is_open_mpi, mpirun
from support import wait_until

pytestmark = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)
STARTER = "import runpy\nrunpy.run_module('job_stream.futures', run_name='__main__', alter_sys=True)\n"
"""What ``python -m job_stream.futures`` runs, for a launcher of scripts."""

MET = """
import joblib
import job_stream.joblib
from joblib import Parallel, delayed

def met(name):
    names = [f"{name}{number}" for number in range(2)]
    with joblib.parallel_config(backend="job_stream", n_jobs=-1):
        return sorted(Parallel(batch_size=1)(delayed(meet)(own, names) for own in names))
"""


def write_both(folder, *texts):
    """A starter, and the script that it is given."""
    starter = folder / "starter.py"
    starter.write_text(STARTER)
    return starter, write(folder, *texts)


def test_estimators_are_fitted_on_two_ranks(tmp_path):
    text = "print(met('a'), getCpuCount())\ncheck('job_stream')\n"
    starter, path = write_both(tmp_path, ESTIMATORS, MEETING, MET, text)
    ended = mpirun(starter, 2, path, env=ONE_LANE)
    assert (ended.code, ended.out, ended.err) == (0, "[0, 1] 2\njob_stream the same\n", "")


def test_an_executor_need_not_wait_for_workers_that_are_kept(tmp_path):
    starter, path = write_both(tmp_path, MEETING, MET, """
        print(met("a"))
        with Executor() as executor:
            print(executor.submit(pow, 2, 3).result())
        print(met("b"))
    """)
    ended = mpirun(starter, 2, path, env=ONE_LANE)
    assert (ended.code, ended.out, ended.err) == (0, "[0, 1]\n8\n[0, 1]\n", "")


def test_where_all_ranks_run_the_script_the_way_out_is_said(tmp_path):
    path = write_both(tmp_path, MEETING, MET, "met('a')")[1]
    ended = mpirun(path, 2, env=ONE_LANE)
    assert ended.code != 0
    assert "python -m job_stream.futures script.py" in ended.err


@pytest.mark.skipif(sys.platform != "linux", reason="needs ULFM")
def test_estimators_are_fitted_though_a_rank_dies(tmp_path):
    starter, path = write_both(tmp_path, ESTIMATORS, MEETING, MET, """
        def work(number):
            if number == 5:
                (folder / "begun").touch()
            time.sleep(0.01)
            return number

        print(met("a"), flush=True)
        with joblib.parallel_config(backend="job_stream", n_jobs=-1):
            print(Parallel(batch_size=1)(delayed(work)(i) for i in range(300)) == list(range(300)), flush=True)
        check("job_stream")
    """)
    with World(starter, 2, path, ulfm=True, env=ONE_LANE) as world:
        wait_until((tmp_path / "begun").exists, "the first calls")
        os.kill(world.pids()[1], signal.SIGKILL)
        ended = world.ended()
    assert ended.out.splitlines() == ["[0, 1]", "True", "job_stream the same"]
