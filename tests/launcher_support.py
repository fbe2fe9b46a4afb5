"""What tests of the command line share: the installed command, with a hard limit and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest
from mpi_support import clean_environment, find_mpirun, is_open_mpi
from support import DEADLINE_S, REPOSITORY, SCRIPT_MARK, Ended, end_of, marked, wait_until

MPIRUN_HERE = find_mpirun() is not None
needs_mpirun = pytest.mark.skipif(not MPIRUN_HERE, reason="there is no mpirun")
needs_open_mpi = pytest.mark.skipif(
    not (MPIRUN_HERE and is_open_mpi(find_mpirun())), reason="mpirun is not that of Open MPI"
)


def job_stream(python: str = sys.executable) -> list[str]:
    """The command: the console script beside a python, or the module where that is not installed."""
    script = Path(python).with_name("job_stream")
    return [str(script)] if script.exists() else [python, "-m", "job_stream"]


class Command:
    """The command ``job_stream`` in a process group of its own. As a context, all that came of it is ended."""

    def __init__(
        self, folder: Path, *words: object, env: dict[str, str] | None = None, python: str = sys.executable
    ) -> None:
        self.mark = uuid.uuid4().hex
        name = self.mark[:8]
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        home = {"XDG_CONFIG_HOME": str(folder / "config")}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*job_stream(python), *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**clean_environment({**home, **(env or {})}), SCRIPT_MARK: self.mark},
                cwd=folder,
                start_new_session=True,
            )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for pid in marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, deadline_s: float = DEADLINE_S) -> Ended:
        """Waits for the end: exit status, and all that was written."""
        return end_of(self.process, self.out, self.err, self.mark, deadline_s)

    def gone(self) -> None:
        """Waits until nothing is left of it."""
        wait_until(lambda: not marked(self.mark), "all processes to end")


def run(folder: Path, *words: object, env: dict[str, str] | None = None, python: str = sys.executable) -> Ended:
    """Runs the command to its end."""
    with Command(folder, *words, env=env, python=python) as command:
        ended = command.ended()
        command.gone()
        return ended


def script(folder: Path, text: str) -> Path:
    """A script in which ``here`` is its folder; ``rank`` and ``size`` are known without MPI."""
    path = folder / "script.py"
    path.write_text(PRELUDE + textwrap.dedent(text), encoding="utf-8")
    return path


PRELUDE = f"""
import os, signal, sys, time
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
from pathlib import Path
from support import Gate, Once, Tally, die
here = Path(__file__).parent
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or 0)
"""


def fake_program(folder: Path, name: str, version: str) -> Path:
    """A program that says that it is of some version, and does nothing."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
    return path


AGENT = """#!/bin/sh
# Stands in for ssh: a "host" is this machine under another name.
while case "$1" in -*) true;; *) false;; esac; do shift; done
host=$1; shift
exec unshare --uts sh -c "hostname $host; $*"
"""


def remote(folder: Path) -> dict[str, str]:
    """Variables that have hosts reached without a network; skips where the kernel doesn't let this user name hosts."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "--uts", "hostname", "x"], check=False).returncode:
        pytest.skip("this user may not give this machine other names")
    agent = folder / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    return {"PRTE_MCA_plm_ssh_agent": str(agent), "HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": str(agent)}
