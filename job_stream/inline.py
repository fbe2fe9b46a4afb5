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

from typing import TYPE_CHECKING

from .errors import JobStreamError
from .evaluate.context import current
from .ordered import map
from .ranks.cpus import host_cpu_count
from .ranks.world import rank_of, size_of, world
from .values import Args, Multiple, Object
from .work import Work

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["Args", "Multiple", "Object", "Work", "getCpuCount", "getHostCpuCount", "getRank", "map", "rng"]


def getRank() -> int:
    """The number of this rank; 0 is the primary."""
    return rank_of()


def getHostCpuCount() -> int:
    """How many workers this rank has."""
    evaluator = current()
    if evaluator is not None:
        return evaluator.cpus
    return world().peers[rank_of()].cpus if size_of() > 1 else host_cpu_count()


def getCpuCount() -> int:
    """How many workers all ranks have together."""
    evaluator = current()
    if evaluator is not None:
        return evaluator.all_cpus
    return sum(peer.cpus for peer in world().peers) if size_of() > 1 else host_cpu_count()


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
