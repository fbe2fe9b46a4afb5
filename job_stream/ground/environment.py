"""The environment variables that job_stream reads: each one's name, what its text means, and a sentence about it.

Nobody else spells their names, but for ``launcher/usher.py``, which is started as a file and stands alone. The table
in docs/api.rst is that of ``FOR_USERS``. A variable that is empty counts as one that is not set.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from ..errors import JobStreamError, PlanError, WorldError
from .sizes import SIZES, bytes_in

__all__ = [
    "CHECKPOINT", "CHECKPOINT_KEY", "COMMAND_LINE", "CPUS", "END_TIME", "FOR_USERS", "INVOKED", "JOIN_LIMIT",
    "LAUNCHER", "MEMORY", "MPIRUN", "RANKS", "START", "START_METHODS", "STATS", "TIME_LIMIT", "USHER", "WORKER",
    "WORLD_PID", "EnvVariable", "number_in",
]  # fmt: skip

T = TypeVar("T")
_MOST_DIGITS = 9


class EnvVariable(Generic[T]):
    """An environment variable.

    Args:
        name: of it.
        meaning: makes a value of name and text; raises an error of ours where the text makes no sense.
        sentence: what it says, in the words of the reference.
    """

    def __init__(self, name: str, meaning: Callable[[str, str], T], sentence: str) -> None:
        self.name = name
        self.sentence = sentence
        self._meaning = meaning

    def __str__(self) -> str:
        return self.name

    def read(self, environment: Mapping[str, str] | None = None) -> T | None:
        """What it says; None: nothing.

        Args:
            environment: None: that of this process.

        Raises:
            JobStreamError: it says something that makes no sense.
        """
        text = (os.environ if environment is None else environment).get(self.name)
        return self._meaning(self.name, text) if text else None

    def is_set(self) -> bool:
        """Whether it says anything, be it nonsense."""
        return bool(os.environ.get(self.name))


def number_in(text: str) -> int | None:
    """The number that is written in a variable; None: none, or one that nobody means."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


# what texts mean ------------------------------------------------------------------------------------------------------


def _as_it_is(name: str, text: str) -> str:
    return text


def _cpus(name: str, text: str) -> int:
    count = number_in(text)
    if not count:
        raise PlanError(f"{name} must be a number of CPUs above 0, not {text!r:.60}")
    return count


def _bytes(name: str, text: str) -> int:
    size = bytes_in(text)
    if size is None:
        raise PlanError(f"{name} must be {SIZES}, not {text!r:.60}; unset it for a share of the memory that there is")
    return size


def _seconds(error: type[JobStreamError] = PlanError, most: float = math.inf) -> Callable[[str, str], float]:
    def meaning(name: str, text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= most:
            raise error(f"{name} must be a number of seconds above 0, not {text!r}")
        return seconds

    return meaning


def _alone(name: str, text: str) -> bool:
    if text != "1":
        raise WorldError(f"{name} can only be 1 (this process alone), not {text!r:.60}; use mpirun -n for more")
    return True


def _yes_or_no(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise PlanError(
            f"{name} must be 0 (no statistics) or 1 (statistics of every run), not {text!r}; without it, longer runs "
            "have them on a terminal and under the command job_stream"
        )
    return text == "1"


START_METHODS = ("fork", "forkserver")
"""How worker processes may be started."""


def _start_method(name: str, text: str) -> str:
    if text not in START_METHODS:
        raise PlanError(f"{name} must be {' or '.join(START_METHODS)}, not {text!r:.60}")
    return text


# for users ------------------------------------------------------------------------------------------------------------

CHECKPOINT = EnvVariable(
    "JOBS_CHECKPOINT", _as_it_is, "where checkpoints are written, and gone on from; the keyword ``checkpointFile`` wins"
)
CHECKPOINT_KEY = EnvVariable("JOBS_CHECKPOINT_KEY", _as_it_is, "the name of a file with a secret that signs them")
TIME_LIMIT = EnvVariable(
    "JOBS_TIME_LIMIT", _seconds(), "seconds after which the run has to be over; the keyword ``timeLimit`` wins"
)
END_TIME = EnvVariable(
    "SLURM_JOB_END_TIME", _seconds(), "the same, as a time of day in seconds since 1970; Slurm sets it"
)
CPUS = EnvVariable("JOBS_CPUS", _cpus, "the number of workers of each rank; the keyword ``cpus`` wins")
MEMORY = EnvVariable(
    "JOBS_MEMORY", _bytes, "bytes (``500MiB``) that values may take on their way; the keyword ``memory`` wins"
)
RANKS = EnvVariable("JOBS_RANKS", _alone, "``1``: this process is alone, whatever the launcher says")
JOIN_LIMIT = EnvVariable(
    "JOBS_JOIN_LIMIT",
    _seconds(WorldError, threading.TIMEOUT_MAX),
    "seconds that ranks wait for the others to join them; 60 without it",
)
MPIRUN = EnvVariable(
    "JOBS_MPIRUN", _as_it_is, "the ``mpirun``, ``mpiexec`` or ``srun`` that the command ``job_stream`` uses"
)
STATS = EnvVariable(
    "JOBS_STATS",
    _yes_or_no,
    "``0``: no statistics at the end of a run; ``1``: those of every run, wherever it runs",
)
START = EnvVariable(
    "JOBS_START",
    _start_method,
    "``forkserver``: workers are not forked from the script; the keyword ``startMethod`` wins",
)
_THREADS = EnvVariable("OMP_NUM_THREADS", _as_it_is, "threads of BLAS and OpenMP in each worker; 1 if it isn't set")

FOR_USERS: tuple[EnvVariable[Any], ...] = (
    CHECKPOINT, CHECKPOINT_KEY, TIME_LIMIT, END_TIME, CPUS, MEMORY, RANKS, JOIN_LIMIT, MPIRUN, STATS, START, _THREADS,
)  # fmt: skip

# between processes of ours --------------------------------------------------------------------------------------------

COMMAND_LINE = EnvVariable("JOBS_COMMAND_LINE", _as_it_is, "the command ``job_stream`` has started this")
LAUNCHER = EnvVariable("JOBS_LAUNCHER", _as_it_is, "where the ushers of this run find its launcher")
USHER = EnvVariable("JOBS_USHER", _as_it_is, "the socket of the usher that has started this rank")
WORLD_PID = EnvVariable(
    "JOBS_WORLD_PID", _as_it_is, "the process that is the rank; its children inherit what says so, but are no ranks"
)
WORKER = EnvVariable("JOBS_WORKER", _as_it_is, "the worker that has started this")
INVOKED = EnvVariable("JOBS_INVOKED", _as_it_is, "by which a program and all that comes of it is known")
