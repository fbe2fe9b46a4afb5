"""Which lanes a run has, and which of its two pools has which."""

from __future__ import annotations

from typing import Protocol, cast

from ..lanes.pool import ProcessPool
from ..lanes.threads import ThreadPool
from ..workers.protocol import ToWorker
from ..workers.worker import KEEPER

__all__ = ["AnyPool", "Pools"]


class AnyPool(Protocol):
    """Lanes of one kind and their keeper, as whoever performs actions sees them."""

    def start(self, lane: int) -> None:
        """Messages may be sent to this lane from now on."""

    def send(self, lane: int, message: ToWorker) -> None:
        """Sends without waiting."""

    def take_back(self, lane: int) -> list[ToWorker]:
        """The messages that a lane has not taken, in order."""
        ...

    def spent_ns(self) -> tuple[int, int]:
        """Wall and CPU time that lanes and keeper have spent on user code."""
        ...

    def close(self) -> None:
        """Ends all of them."""


class Pools:
    """The pools of a run.

    Args:
        processes: lanes that are processes; None: no stage wants any.
        threads: lanes that are threads; they are started when they are wanted.
    """

    def __init__(self, processes: ProcessPool | None, threads: ThreadPool) -> None:
        self.processes = processes
        self.threads = threads
        self._processes = cast("ProcessPool", processes)  # where there are none, no lane and no action is for one

    def of_kind(self, processes: bool) -> AnyPool:
        """The pool that has processes, or threads."""
        return self._processes if processes else self.threads

    def of_lane(self, lane: int) -> AnyPool:
        """The pool that has this lane. Their numbers differ, but for the keepers: each pool has one of that number."""
        return self.threads if lane in self.threads and lane != KEEPER else self._processes

    def has(self, lane: int) -> bool:
        """Whether there is still such a lane."""
        return lane in self.threads or (self.processes is not None and lane in self.processes)

    def spent_ns(self) -> tuple[int, int]:
        """Wall and CPU time that all workers have spent on user code."""
        spent = [pool.spent_ns() for pool in (self.processes, self.threads) if pool is not None]
        wall, cpu = (sum(column) for column in zip(*spent, strict=True))
        return wall, cpu
