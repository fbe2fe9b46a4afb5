"""Inline, decorator-based data flow over all cores, written in the order in which it runs.

Public names: ``Work``, ``map``, ``imap``, ``aimap``, ``Pool``, ``Args``, ``Multiple``, ``Object``, ``rng``,
``getRank``, ``getCpuCount``, ``getHostCpuCount``, ``getWorker``, ``hosts``, ``share``, ``alive``, ``invoke``,
``checkpointInfo``; exceptions are in ``job_stream.errors``, executors in ``job_stream.futures``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import common, errors
from .inline import (
    Args,
    Multiple,
    Object,
    Work,
    aimap,
    alive,
    getCpuCount,
    getHostCpuCount,
    getRank,
    getWorker,
    hosts,
    imap,
    map,
    rng,
    share,
)
from .invoke import invoke

if TYPE_CHECKING:
    from .checkpoints.info import CheckpointInfo
    from .futures.workerpool import Pool

__version__ = "0.1.0"
__all__ = [
    "Args", "Multiple", "Object", "Pool", "Work", "aimap", "alive", "checkpointInfo", "common", "errors", "getCpuCount",
    "getHostCpuCount", "getRank", "getWorker", "hosts", "imap", "invoke", "map", "rng", "share",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """``Pool`` is loaded when it is asked for: who only runs a stream has no use for it."""
    if name != "Pool":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .futures.workerpool import Pool

    return Pool


def checkpointInfo(path: str | os.PathLike[str]) -> CheckpointInfo:
    """What is in a checkpoint, in brief. Reads its header only; of a finished run, that of FILE.done.

    Args:
        path: what was given as checkpointFile.

    Returns:
        An object whose ``str`` is a readable summary. Its attributes are path, format, runId, written (seconds since
        1970), finished, open (tasks), byStage, nbytes, delivered (results) and stages.

    Raises:
        CheckpointError: there is none, or it cannot be read.

    Example:
        >>> print(checkpointInfo("sweep.checkpoint"))  # doctest: +SKIP
    """
    from .checkpoints.info import info_of  # not at once: who only runs a stream has no use for it

    return info_of(path)
