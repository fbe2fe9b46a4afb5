"""How far the calls of an executor are: told to a function, or written to standard error.

A thread looks at the live source now and then, which costs the calls nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol

from ..errors import PlanError
from ..ground.contexts import context
from ..ground.texts import shorten, told

__all__ = ["CallProgress", "Tell", "Telling", "Wanted", "tells"]

LOOK_S = 0.1
LOG_S = 5.0, 300.0
"""Lines come after 5, 10, 20, 40 seconds and so on, but at most so far apart."""


class CallProgress(NamedTuple):
    """How far the calls of an executor are.

    Attributes:
        items: calls that have come to their ends, in whatever way.
        total: calls that were submitted, without those that were cancelled.
        elapsed: seconds since the executor was made.
        rate: calls a second, since then.
        lanes: how many workers there are.
        finished: the executor has ended; this comes once, and last.
    """

    items: int
    total: int
    elapsed: float
    rate: float
    lanes: int
    finished: bool

    def __str__(self) -> str:
        line = f"job_stream: {self.items:,} of {self.total:,} calls, {self.rate:,.1f} calls/s, {self.lanes} workers"
        if self.finished:
            return f"{line}, took {_duration(self.elapsed)}"
        left = (self.total - self.items) / self.rate if self.rate else None
        return line if left is None else f"{line}, about {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"


Tell = Callable[[CallProgress], object]
Wanted = bool | Literal["bar", "log"] | Tell | None


def tells(wanted: Any) -> Callable[[], Tell] | None:
    """Makes what is told; None: nobody is.

    Raises:
        PlanError: it is none of what there is.
    """
    if wanted is None or wanted is False:
        return None
    if callable(wanted):
        return lambda: wanted
    if wanted is True:
        return _Bar if sys.stderr.isatty() else _Log
    if wanted in ("bar", "log"):
        return _Bar if wanted == "bar" else _Log
    raise PlanError(f"progress must be None, True, False, 'bar', 'log' or a function, not {shorten(wanted, 80)}")


class _Bar:
    """A line that is written anew."""

    def __call__(self, progress: CallProgress) -> None:
        text = str(progress)[: max(_width() - 1, 1)]
        print(f"\r\033[K{text}", end="\n" if progress.finished else "", file=sys.stderr, flush=True)


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):  # it is no terminal
        return 80


class _Log:
    """A line now and then."""

    def __init__(self) -> None:
        self._next_s = LOG_S[0]

    def __call__(self, progress: CallProgress) -> None:
        if not progress.finished and progress.elapsed < self._next_s:
            return
        print(progress, file=sys.stderr, flush=True)
        self._next_s = progress.elapsed + min(max(progress.elapsed, LOG_S[0]), LOG_S[1])


class _Run(Protocol):
    """The run that is looked at."""

    @property
    def is_alive(self) -> bool: ...

    def join(self, timeout_s: float | None = None) -> None: ...

    @property
    def counts(self) -> tuple[int, int, int]:
        """Calls that have ended, that were submitted, and lanes."""
        ...


class Telling:
    """Tells of a run, from a thread of its own, until that is over.

    Args:
        tell: is told when something has changed, and at the end. What it raises is reported once, and then it is told
            nothing any more.
    """

    def __init__(self, run: _Run, tell: Tell) -> None:
        self._run = run
        self._tell: Tell | None = tell
        self._since = monotonic()
        self._thread = threading.Thread(target=self._watch, name="job_stream-progress", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits until the end was told."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _watch(self) -> None:
        before: tuple[int, int, int] = 0, 0, 0
        while self._run.is_alive:
            self._run.join(LOOK_S)
            counts = self._run.counts
            if counts != before and self._run.is_alive:
                before = counts
                self._say(counts, False)
        self._say(self._run.counts, True)

    def _say(self, counts: tuple[int, int, int], finished: bool) -> None:
        items, total, lanes = counts
        elapsed = monotonic() - self._since
        with self._reporting():
            if self._tell is not None:
                self._tell(CallProgress(items, total, elapsed, items / max(elapsed, 1e-9), lanes, finished))

    @context
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._tell = None
            print(f"job_stream: what progress= calls has failed, and is not called any more: {told(error)}",
                  file=sys.stderr, flush=True)  # fmt: skip
