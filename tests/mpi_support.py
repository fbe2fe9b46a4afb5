"""What tests of many ranks share: scripts under mpirun, with a hard limit and nothing left behind."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from support import DEADLINE_S, QUIET, REPOSITORY, SCRIPT_MARK, Ended, end_of, marked, parents, wait_until

MPICH = "JOBS_TEST_MPICH"
"""Names the python of an environment with MPICH, for the tests that are run with it too."""

AS_ROOT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
SESSIONS = "PRTE_MCA_prte_local_tmpdir_base"
"""Where Open MPI's launcher keeps its files, which one that was killed would leave to another with the same pid."""
LAUNCHERS = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "SLURM_", "MPI_LOCAL", "JOBS_")
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK")


def find_mpirun(python: str = sys.executable) -> str | None:
    """The mpirun beside a python; otherwise that of the PATH."""
    beside = Path(python).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")


@functools.cache
def is_open_mpi(program: str) -> bool:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=DEADLINE_S)
    return "Open MPI" in answer.stdout


def pythons() -> list[Any]:
    """The python of each environment with an MPI, as parameters of a test."""
    mpich = os.environ.get(MPICH)
    missing = pytest.mark.skip(reason=f"{MPICH} does not name the python of an environment with MPICH")
    return [
        pytest.param(sys.executable, id="this MPI"),
        pytest.param(mpich, id="MPICH", marks=() if mpich else missing),
    ]


def clean_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment without what a launcher around the tests may have set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    kept.pop("PYTHONUNBUFFERED", None)
    return {**kept, "PYTHONPATH": str(REPOSITORY), **AS_ROOT, **QUIET, **(extra or {})}


class World:
    """A script that runs on some ranks. As a context, it and all that came of it is ended on the way out.

    What it writes is kept in ``folder``: beside it, unless told.
    """

    def __init__(
        self,
        path: Path,
        ranks: int,
        *arguments: object,
        ulfm: bool = False,
        env: dict[str, str] | None = None,
        options: tuple[str, ...] = (),
        python: str = sys.executable,
        folder: Path | None = None,
    ) -> None:
        program = find_mpirun(python)
        assert program is not None, "there is no mpirun"
        self.mark = uuid.uuid4().hex
        folder = folder or path.parent
        self.out, self.err = folder / f"{path.stem}.out", folder / f"{path.stem}.err"
        tolerant = ("--with-ft", "ulfm") if ulfm else ()
        self._session = tempfile.TemporaryDirectory(prefix="jobs-test-", ignore_cleanup_errors=True)
        command = [program, *tolerant, *options, "-n", str(ranks), python, "-W", "error", str(path)]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**clean_environment(env), SCRIPT_MARK: self.mark, SESSIONS: self._session.name},
                cwd=folder,
                start_new_session=True,
            )

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.kill()

    def living(self) -> set[int]:
        """The launcher and all that came of it."""
        return marked(self.mark)

    def pids(self) -> dict[int, int]:
        """The process of each living rank: the one whose parent is of no rank, since children inherit the number."""
        ranks = {pid: _rank(pid) for pid in self.living()}
        above = parents()
        return {
            rank: pid for pid, rank in ranks.items() if rank is not None and ranks.get(above.get(pid, 0), rank) is None
        }

    def ended(self, deadline_s: float = DEADLINE_S) -> Ended:
        """Waits for the end: the launcher's exit code, and all that was written."""
        return end_of(self.process, self.out, self.err, self.mark, deadline_s)

    def gone(self, deadline_s: float = DEADLINE_S) -> None:
        """Waits until nothing is left of it."""
        wait_until(lambda: not self.living(), f"the processes {self.living()} to end", deadline_s)

    def kill(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        self._session.cleanup()


def _rank(pid: int) -> int | None:
    """What the launcher, or an ancestor, told a process."""
    with contextlib.suppress(OSError):
        lines = Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
        entries = dict(line.decode(errors="replace").partition("=")[::2] for line in lines)
        return next((int(entries[name]) for name in RANK_VARIABLES if name in entries), None)
    return None


def mpirun(
    path: Path,
    ranks: int,
    *arguments: object,
    ulfm: bool = False,
    env: dict[str, str] | None = None,
    deadline_s: float = DEADLINE_S,
    options: tuple[str, ...] = (),
    python: str = sys.executable,
    folder: Path | None = None,
) -> Ended:
    """Runs a script on some ranks to its end."""
    with World(path, ranks, *arguments, ulfm=ulfm, env=env, options=options, python=python, folder=folder) as world:
        return world.ended(deadline_s)
