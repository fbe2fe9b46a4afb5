"""The scripts for batch systems in docs/clusters.rst, run with stand-ins for what they call."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from launcher_support import job_stream, needs_mpirun, remote, script
from mpi_support import clean_environment
from support import DEADLINE_S, REPOSITORY

pytestmark = needs_mpirun

SWEEP = """
    import job_stream

    w = job_stream.Work(range(10))
    w.job(lambda number: number + 1)
    results = w.run()
    if results:
        print(sum(results), os.environ["JOBS_TIME_LIMIT"], os.environ["JOBS_CHECKPOINT"])
    sys.exit(75)
"""


def scripts() -> dict[str, str]:
    """Each script of the page by the name of its batch system."""
    text = (REPOSITORY / "docs" / "clusters.rst").read_text()
    blocks = text.split(".. code-block:: bash\n\n")[1:]
    bodies = [textwrap.dedent(block[: block.index("\n\n", block.index("exit "))]) for block in blocks]
    return {"Slurm": bodies[0], "PBS": bodies[1]}


@pytest.fixture
def cluster(tmp_path):
    """Variables for a home in which job_stream is installed, and programs that note how they are called."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv/bin/activate").write_text("")
    own = shlex.join(job_stream())
    for name, text in [
        ("job_stream", f'exec {own} "$@"'),
        ("python", f'exec {shlex.quote(sys.executable)} "$@"'),
        ("scontrol", 'echo "$@" > "$HOME/called"'),
        ("qsub", 'echo "$@" > "$HOME/called"'),
    ]:
        path = tmp_path / "venv" / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    script(tmp_path, SWEEP).rename(tmp_path / "sweep.py")
    return {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"}


def run(tmp_path: Path, text: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, check=False, timeout=DEADLINE_S,
        cwd=tmp_path, env=clean_environment(env),
    )  # fmt: skip


def test_the_job_for_slurm_goes_back_into_the_queue(tmp_path, cluster):
    slurm = {"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1", "SLURMD_NODENAME": "n1", "SLURM_JOB_ID": "47"}
    # in a batch script these two are there, too
    ended = run(tmp_path, scripts()["Slurm"], {**cluster, **slurm, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"})
    assert ended.returncode == 75, ended.stderr
    total, limit, checkpoint = ended.stdout.split()
    assert (total, checkpoint) == ("55", str(tmp_path / "sweep.checkpoint"))
    assert 14000 < float(limit) <= 3 * 3600 + 55 * 60
    assert (tmp_path / "called").read_text() == "requeue 47\n"


def test_the_job_for_pbs_goes_back_into_the_queue(tmp_path, cluster):
    (tmp_path / "nodes").write_text("alpha\nbeta\n")
    pbs = {"PBS_NODEFILE": str(tmp_path / "nodes"), "PBS_O_WORKDIR": str(tmp_path)}
    ended = run(tmp_path, scripts()["PBS"], {**cluster, **pbs, **remote(tmp_path)})
    assert ended.returncode == 75, ended.stderr
    assert ended.stdout.split()[0] == "55"
    assert (tmp_path / "called").read_text() == "sweep.pbs\n"
