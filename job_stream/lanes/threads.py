"""Lanes and a keeper that are threads of this process, for stages with ``useMultiprocessing=False``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .board import ALL_CPUS, OWN_CPUS
from .child import Setup
from .keeper import Keeper
from .lane import Lane, newEvaluator
from .links import ThreadLink
from .packing import LivePacking

__all__ = ["ThreadPool"]

KEEPER = 0
JOIN_S = 0.5


class ThreadPool:
    """The thread lanes of a run.

    Args:
        deliver: called in a lane's thread with the lane's number and each message it sends.
    """

    def __init__(self, setup: Setup, deliver: Callable[[int, Any], None]) -> None:
        self._setup = setup
        self._deliver = deliver
        self._links: dict[int, ThreadLink] = {}
        self._threads: list[threading.Thread] = []

    def __contains__(self, lane: int) -> bool:
        return lane in self._links

    def start(self, lane: int) -> None:
        link = self._links[lane] = ThreadLink(lambda message: self._deliver(lane, message))
        setup = self._setup
        evaluator = newEvaluator(setup.plan, False, [0] * 8, setup.seed)
        evaluator.cpus = setup.board.flags[OWN_CPUS]
        evaluator.allCpus = setup.board.flags[ALL_CPUS]
        worker: Lane | Keeper
        if lane == KEEPER:
            worker = Keeper(link, evaluator, LivePacking(), [0] * 8)
        else:
            worker = Lane(lane, link, evaluator, LivePacking(), setup.source, [0] * 8, setup.board.flags, setup.drop)
        name = f"job_stream-{'keeper' if lane == KEEPER else f'lane-{lane}'}"
        thread = threading.Thread(target=worker.run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def send(self, lane: int, message: Any) -> None:
        self._links[lane].put(message)

    def takeBack(self, lane: int) -> list[Any]:
        return self._links[lane].takeBack()

    def close(self) -> None:
        """Ends all lanes; one that is inside user code ends when that returns."""
        for link in self._links.values():
            link.close()
        for thread in self._threads:
            thread.join(JOIN_S)
