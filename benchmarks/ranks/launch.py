"""Starts a program on some ranks, reads what it tells, and leaves no process behind, whatever happens.

Ranks are not children of the launcher in the way a process group is: killing it can leave them running. So all that is
started carries a mark in its environment, and what bears the mark is ended on the way out.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.contenders import ROOT, shorten

MARK = "BENCHMARKS_MARK"
# What a launcher around this process may have set; the ranks would take themselves for ranks of that.
LAUNCHERS = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "SLURM_", "MPI_LOCAL", "JOBS_")
# One lane a rank; Open MPI refuses to start as root, and more ranks than cores, unless told.
ENVIRONMENT = {
    "JOBS_CPUS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def find_mpirun() -> str | None:
    """The mpirun beside this interpreter, else that of the PATH."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")


@cache
def why_not(tolerant: bool = False) -> str:
    """What keeps ranks from being started, with ``tolerant`` such that outlive others; empty: nothing."""
    program = find_mpirun()
    if find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    if program is None:
        return "there is no mpirun"
    if tolerant and "Open MPI" not in subprocess.run([program, "--version"], capture_output=True, text=True).stdout:
        return "only Open MPI (with ULFM) lets ranks outlive others"
    return ""


def run_ranks(ranks: int, module: str, name: str, tolerant: bool = False, **parameters: object) -> dict[str, Any]:
    """What ``python -m module name parameters`` tells on so many ranks: the JSON objects on its stdout, as one.

    Raises:
        RuntimeError: it failed. Where ranks are to outlive others the exit status says nothing, only what is told.
    """
    arguments = ["-m", module, name, json.dumps(parameters)]
    status, out, err = run_marked([*launcher(ranks, tolerant), sys.executable, *arguments])
    told: dict[str, Any] = {}
    for line in out.splitlines():
        if line.startswith("{"):
            told.update(json.loads(line))
    if not told or (status != 0 and not tolerant):
        raise RuntimeError(f"{module} {name} on {ranks} ranks ended with {status}: {shorten(last_error(err), 200)}")
    return told


def launcher(ranks: int, tolerant: bool) -> list[str]:
    program = find_mpirun()
    if program is None:
        raise RuntimeError("there is no mpirun")
    return [program, *(("--with-ft", "ulfm") if tolerant else ()), "--bind-to", "none", "-n", str(ranks)]


def run_marked(command: list[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr; all that came of the command is ended, also when this is interrupted."""
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(mark),
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate()
        finally:
            end_marked(mark)
            # Where Open MPI's launcher was killed, this stays, and a later one with the same pid would not start.
            shutil.rmtree(Path(tempfile.gettempdir(), f"ompi.{process.pid}"), ignore_errors=True)
    return process.returncode, out, err


def environment(mark: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return {**kept, **ENVIRONMENT, "PYTHONPATH": path, MARK: mark}


def end_marked(mark: str) -> None:
    """Kill what bears the mark, until nothing does: a rank may just be starting another process."""
    clear = 0
    while clear < 2:  # one that is about to become another program has no environment for a moment
        found = list(marked(mark))
        clear = 0 if found else clear + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def marked(mark: str) -> Iterator[int]:
    """Living processes with the mark in their environment; that of the dead is empty."""
    entry = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def last_error(err: str) -> str:
    """The line that names the exception; the launcher has its own to say after it."""
    lines = [line for line in err.splitlines() if line.strip()]
    named = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception", "WrongAnswer"))]
    return (named or lines or ["nothing on stderr"])[-1]
