"""Inline, decorator-based data flow over all cores, written in the order in which it runs.

Public names: ``Work``, ``map``, ``Args``, ``Multiple``, ``Object``, ``rng``, ``getRank``, ``getCpuCount``,
``getHostCpuCount``, ``getWorker``, ``hosts``, ``share``, ``alive``, ``invoke``, ``checkpointInfo``; exceptions are in
``job_stream.errors``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import common, errors
from .inline import (
    Args,
    Multiple,
    Object,
    Work,
    alive,
    getCpuCount,
    getHostCpuCount,
    getRank,
    getWorker,
    hosts,
    map,
    rng,
    share,
)
from .invoke import invoke

if TYPE_CHECKING:
    from .checkpoints.info import CheckpointInfo

__version__ = "0.1.0"
__all__ = [
    "Args", "Multiple", "Object", "Work", "alive", "checkpointInfo", "common", "errors", "getCpuCount",
    "getHostCpuCount", "getRank", "getWorker", "hosts", "invoke", "map", "rng", "share",
]  # fmt: skip


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
