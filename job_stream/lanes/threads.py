"""Lanes and a keeper that are threads of this process, for stages with ``useMultiprocessing=False``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic

from ..evaluate.ending import Ending
from ..evaluate.packing import Packing
from ..memory.words import NOTE_CPU, NOTE_WALL
from ..workers.keeper import Keeper
from ..workers.lane import Lane
from ..workers.links import ThreadLink
from ..workers.protocol import FromWorker, ToWorker
from ..workers.streams import lines_of_threads
from ..workers.surroundings import Surroundings
from ..workers.whole_lines import Lines
from ..workers.worker import KEEPER, Setup, new_worker

__all__ = ["ThreadPool"]

JOIN_S = 0.5
"""How long all lanes together may take to end."""


class ThreadPool:
    """The thread lanes of a run.

    Args:
        deliver: called in a lane's thread with each message it sends.
        packing: of values into payloads.
        surroundings: of user code.
    """

    def __init__(self, setup: Setup, deliver: Callable[[FromWorker], None], packing: Packing,
                 surroundings: Surroundings) -> None:  # fmt: skip
        self._ending = Ending()
        self._setup = setup._replace(ending=self._ending)
        self._deliver = deliver
        self._packing = packing
        self._surroundings = surroundings
        self._links: dict[int, ThreadLink] = {}
        self._threads: list[threading.Thread] = []
        self._notes: list[list[int]] = []
        self._lines: list[Lines] = []

    def __contains__(self, lane: int) -> bool:
        return lane in self._links

    def start(self, lane: int) -> None:
        if not self._links:
            self._lines = lines_of_threads()
        link = self._links[lane] = ThreadLink(self._deliver)
        note = [0] * 8
        self._notes.append(note)
        worker = new_worker(self._setup, lane, False, link, self._packing, note)
        name = f"job_stream-{'keeper' if lane == KEEPER else f'lane-{lane}'}"
        thread = threading.Thread(target=self._surroundings.call, args=(partial(_run, worker),), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def send(self, lane: int, message: ToWorker) -> None:
        self._links[lane].put(message)

    def take_back(self, lane: int) -> list[ToWorker]:
        return self._links[lane].take_back()

    def spent_ns(self) -> tuple[int, int]:
        """Wall and CPU time that threads have spent on user code."""
        return sum(note[NOTE_WALL] for note in self._notes), sum(note[NOTE_CPU] for note in self._notes)

    def close(self) -> None:
        """Ends all lanes, and what they wait for; one that is inside user code ends when that returns."""
        for link in self._links.values():
            link.close()
        self._ending.come()
        deadline = monotonic() + JOIN_S
        for thread in self._threads:
            thread.join(max(deadline - monotonic(), 0))
        for lines in self._lines:
            lines.detach()


def _run(worker: Lane | Keeper) -> None:
    """Works until the end, which may come between two calls."""
    with suppress(SystemExit):
        worker.run()
