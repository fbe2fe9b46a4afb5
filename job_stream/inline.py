"""Data flow in the order of the source file: a ``Work`` records decorated functions and runs them in parallel.

Example:
    >>> from job_stream.inline import Work
    >>> with Work(["Hello", "there", "world"]) as w:
    ...     @w.job
    ...     def length(word):
    ...         return len(word)
    ...
    ...     @w.result
    ...     def show(n):
    ...         print(n)
    5
    5
    5
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .errors import JobStreamError
from .evaluate.context import current
from .ordered import aimap, imap, map
from .ranks.cpus import host_cpu_count
from .ranks.hosts import Host, hosts_of_world
from .ranks.world import rank_of, size_of, world
from .runtime.together import shared
from .values import Args, Multiple, Object
from .work import Work

if TYPE_CHECKING:
    from numpy.random import Generator

T = TypeVar("T")

__all__ = [
    "Args", "Host", "Multiple", "Object", "Work", "aimap", "alive", "getCpuCount", "getHostCpuCount", "getRank",
    "getWorker", "hosts", "imap", "map", "rng", "share",
]  # fmt: skip


def getRank() -> int:
    """The number of this rank; 0 is the primary."""
    return rank_of()


def getHostCpuCount() -> int:
    """How many workers this rank has."""
    evaluator = current()
    if evaluator is not None:
        return evaluator.workplace.cpus
    return world().peers[rank_of()].cpus if size_of() > 1 else host_cpu_count()


def getCpuCount() -> int:
    """How many workers all ranks have together."""
    evaluator = current()
    if evaluator is not None:
        return evaluator.workplace.all_cpus
    return sum(peer.cpus for peer in world().peers) if size_of() > 1 else host_cpu_count()


def getWorker() -> int:
    """The number of the worker that runs this, from 1 on; 0 in the script itself.

    No two workers of a rank have the same in one run: one that takes the place of a worker that has died has a number
    of its own. Together with ``getRank()`` it names a worker among those of all ranks. (``frameEnd`` and ``reduce`` may
    run in one process more, which has number 0: the keeper of stores.)

    Example:
        >>> getWorker()
        0
    """
    evaluator = current()
    return 0 if evaluator is None else evaluator.workplace.worker


def alive() -> None:
    """Says, in a long call with a time limit, that it goes on: its ``timeout`` counts from now.

    Without a time limit, and in the script itself, it does nothing.

    Example:
        >>> with Work(range(2), timeout=60) as w:
        ...     @w.job
        ...     def train(x):
        ...         for _ in range(3):
        ...             alive()  # each round may take a minute
        ...         return x
    """
    evaluator = current()
    if evaluator is not None:
        evaluator.failures.alive()


def hosts() -> list[Host]:
    """The machines that this script runs on, each with name, cpus (workers), memory (bytes) and ranks.

    They come in the order of their lowest ranks; the first has the primary. Without ``mpirun`` there is one.

    Raises:
        JobStreamError: called in a job, frame, frameEnd or reduce.

    Example:
        >>> sum(host.cpus for host in hosts()) == getCpuCount()
        True
    """
    if current() is not None:
        raise JobStreamError("hosts() works in the script, not in its jobs: call it before them")
    return hosts_of_world()


def share(value: T) -> T:
    """The primary's value, on every rank.

    All ranks call it at the same point of the script, as they run streams. What the others give is not looked at, so
    that only the primary need have the value. Inside a job, and without ``mpirun``, it is the value that was given.

    Args:
        value: anything that can be pickled.

    Returns:
        the value itself on the primary, a copy on other ranks.

    Raises:
        PayloadError: it cannot be pickled; on every rank.
        WorldError: the primary is lost.
        PlanError: the ranks are at different points of the script.

    Example:
        >>> options = share({"size": 3} if getRank() == 0 else None)
        >>> options["size"]
        3
    """
    return value if current() is not None else shared(value)


def rng() -> Generator:
    """A ``numpy.random.Generator`` for the call under way.

    With ``Work(seed=...)`` it depends only on the seed, the stage and the item's place in the stream, so that a run
    gives the same numbers on any number of workers. Without a seed it is different in each worker and each run.

    Raises:
        JobStreamError: called outside a job, frame, frameEnd or reduce.

    Example:
        >>> with Work(range(3), seed=1) as w:
        ...     @w.job
        ...     def draw(x):
        ...         return rng().normal(x)
    """
    evaluator = current()
    if evaluator is None:
        raise JobStreamError("rng() works inside job, frame, frameEnd and reduce functions only")
    return evaluator.keys.generator()
