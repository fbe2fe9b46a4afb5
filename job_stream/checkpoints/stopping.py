"""Stopping a run that can go on later: with which exit code, and at what time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from functools import cache
from time import monotonic, time

from ..ground.contexts import context
from ..ground.environment import END_TIME, TIME_LIMIT

__all__ = ["STOPPED", "TimeLimit", "terminating"]

STOPPED = 75
"""The exit code of a run that was stopped and can go on: EX_TEMPFAIL of sysexits.h, "try again later"."""
MARGIN_S = 30.0
MARGIN_SHARE = 0.1


class TimeLimit:
    """When the run has to be over.

    Args:
        seconds: from now; None: what JOBS_TIME_LIMIT or, in seconds since 1970, SLURM_JOB_END_TIME says. The first is
            for all streams of this process together.

    Raises:
        PlanError: one of these says nothing that makes sense.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is None and (limit := TIME_LIMIT.read()) is not None:
            seconds = limit - (monotonic() - _begin())
        if seconds is None and (end := END_TIME.read()) is not None:
            seconds = end - time()
        self._end = None if seconds is None else monotonic() + seconds
        self._margin_s = 0.0 if seconds is None else min(MARGIN_S, MARGIN_SHARE * max(seconds, 0.0))

    def due(self, save_s: float) -> float | None:
        """When to begin to stop, on the monotonic clock, if saving takes so long."""
        return None if self._end is None else self._end - self._margin_s - 2 * save_s


@cache
def _begin() -> float:
    """When the first stream that has a time limit began."""
    return monotonic()


@context
def terminating(at: float | None) -> Iterator[None]:
    """Within, the main thread, if it is this one, is sent SIGTERM at a time of the monotonic clock."""
    if at is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    left = min(max(at - monotonic(), 0.0), threading.TIMEOUT_MAX)
    timer = threading.Timer(left, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
