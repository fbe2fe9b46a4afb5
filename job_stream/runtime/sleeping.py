"""How the engine thread waits: what wakes it, and how long it sleeps at most."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep
from typing import Protocol

from ..engine.polling import CALM_S, HOT_PAUSE_S, pause_between_looks
from ..engine.rank import Rank
from ..ground.forks import disown, own
from ..ground.limits import explained
from ..lanes.pool import ProcessPool
from ..ranks.cluster import Cluster
from .prefetch import PULL_S, LazyPrefetcher

__all__ = ["Neighbours", "OtherRanks", "PollPolicy", "Wake"]

_ONE = (1).to_bytes(8, sys.byteorder)
_MANY = 1 << 12
NO_ROOM_MS = 2
STOPPED_MS = 1000
LONGEST_MS = 3_600_000
"""The system doesn't take any number; who sleeps for so long may as well look around once."""


def _opened() -> tuple[int, int]:
    """Descriptors to wait at and to write to."""
    if sys.platform == "linux":
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return fd, fd
    near, far = os.pipe()
    os.set_blocking(near, False)
    os.set_blocking(far, False)
    return near, far


class Wake:
    """Wakes the engine thread, from any thread, for as long as it is there.

    A signal handler may call ``set`` too, even where it interrupts ``set``: the lock has to be reentrant.
    """

    def __init__(self) -> None:
        try:
            self.fd, self._far_fd = _opened()
        except OSError as error:
            raise explained(error, "there can be no run")  # noqa: B904
        self._lock = threading.RLock()
        self._closed = False
        own(self)

    def set(self) -> None:
        with self._lock:
            if not self._closed:
                try:  # noqa: SIM105 - for each item that is posted; a context manager takes as long as the call
                    os.write(self._far_fd, _ONE)
                except BlockingIOError:
                    pass  # a pipe that is full wakes, too

    def wait(self, until: float | None) -> None:
        """Sleeps until somebody wakes this thread, or until this time of the monotonic clock."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.poll(None if until is None else min(max((until - monotonic()) * 1000, 0), LONGEST_MS))
        self.clear()

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.fd, _MANY)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                for fd in {self.fd, self._far_fd}:
                    os.close(fd)
        disown(self)

    def let_go(self) -> None:
        """In a process that was forked meanwhile."""
        self._lock = threading.RLock()
        self.close()


class Neighbours(Protocol):
    """The other ranks, as far as it depends on them how long the engine thread may sleep; MPI wakes nobody up.

    Attributes:
        last_heard: when another rank was last heard of.
    """

    last_heard: float

    def is_busy(self) -> bool:
        """Whether lanes here have something to do, and nothing large is under way."""
        ...

    def is_calm(self) -> bool:
        """Whether they have plenty to do, besides."""
        ...

    def awaits(self) -> bool:
        """Whether there is nothing to do here but to wait for what other ranks owe."""
        ...


class OtherRanks:
    """The ``Neighbours`` of a rank.

    Args:
        rank: what is to be done here.
        joined: the others.
    """

    def __init__(self, rank: Rank, joined: Cluster) -> None:
        self.last_heard = monotonic()
        self._rank = rank
        self._joined = joined

    def is_busy(self) -> bool:
        return self._rank.busy and not self._joined.transport.busy

    def is_calm(self) -> bool:
        return self._rank.has_plenty and self.is_busy() and self._joined.is_complete

    def awaits(self) -> bool:
        return bool(self._rank.debtors) and not self._rank.busy


class PollPolicy:
    """How long the engine thread may sleep.

    Args:
        pool: of lanes that are processes; None: there are none.
        limits: the time limits of the stages, in seconds.
        due: when there is something to do even if nothing comes, on the monotonic clock.
        source: the initial work that is pulled.
        neighbours: the other ranks; None: there are none.
    """

    def __init__(self, pool: ProcessPool | None, limits: list[float], due: Callable[[], float | None],
                 source: LazyPrefetcher, neighbours: Neighbours | None) -> None:  # fmt: skip
        self._pool = pool
        self._due = due
        self._limit_ms = min(max(min(limits) * 100, 5), 500) if limits else None
        self._source = source
        self._neighbours = neighbours
        self._looked = 0.0

    def ms(self) -> float | None:
        """Until when to sleep, in ms from now; None: until something happens."""
        most, due = self._ms(), self._due()
        if due is None:
            return most
        left = min(max((due - monotonic()) * 1000, 0), LONGEST_MS)
        return left if most is None else min(most, left)

    def _ms(self) -> float | None:
        if self._neighbours is not None:
            return self._polling_ms(self._neighbours)
        prefetcher = self._source.made
        if prefetcher is not None and prefetcher.waiting:
            return PULL_S * 1000
        if self._pool is None:
            return None
        if self._pool.wants_room():
            return NO_ROOM_MS
        if self._limit_ms is not None:
            return self._limit_ms
        return STOPPED_MS if self._pool.stopped else None

    def _polling_ms(self, neighbours: Neighbours) -> float:
        """The same among several ranks."""
        now, calm = monotonic(), neighbours.is_calm()
        pause = pause_between_looks(now - neighbours.last_heard, calm, neighbours.is_busy(), neighbours.awaits())
        if calm:
            return max(self._looked + pause - now, 0.0) * 1000
        if pause == HOT_PAUSE_S:
            sleep(pause)
            return 0
        return pause * 1000

    def is_look_due(self) -> bool:
        """Whether to look for other ranks now, whatever it was that ended the wait."""
        if self._neighbours is None:
            return False
        now = monotonic()
        if now < self._looked + CALM_S and self._neighbours.is_calm():
            return False
        self._looked = now
        return True
