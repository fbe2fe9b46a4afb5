"""How it shows that a rank has been silent for too long: it is asked now and then, and given up in the end.

Time counts only while this process runs: a rank that was stopped itself, or slept with its host, does not take that for
the silence of others.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["PRIMARY_SILENT_S", "SILENT_S", "Silence"]

SILENT_S = 30.0
"""A rank that owes something and has been silent for so long is lost."""
PRIMARY_SILENT_S = 600.0
"""The same for rank 0, for whoever waits for its work. The functions of the script run in its process, and one that
keeps the interpreter busy delays its answers."""
PINGS = 6
"""How often a silent rank is asked before that."""
LOOK_S = 0.25
STEP_S = 0.5


class Silence:
    """Knows when each rank was heard of last.

    Args:
        ask: sends something to a rank that this answers at once.
    """

    def __init__(self, ask: Callable[[int], None]) -> None:
        self._ask = ask
        self._heard: dict[int, float] = {}
        self._asked: dict[int, float] = {}
        self._clock = 0.0
        self._tick = time.monotonic()
        self._next_look = 0.0

    def begin(self) -> None:
        """The next stream begins; nobody owes anything yet."""
        self._heard.clear()
        self._asked.clear()

    def heard(self, rank: int) -> None:
        """This rank has just been heard of."""
        self._heard[rank] = self._clock

    def too_long(self, watched: Callable[[], set[int]]) -> list[tuple[int, float]]:
        """Ranks that have been silent for too long, with the limit that they have exceeded; others are asked.

        Args:
            watched: finds out who should answer; called a few times a second at most.
        """
        now = time.monotonic()
        if now < self._next_look:
            return []
        self._next_look = now + LOOK_S
        self._clock += min(now - self._tick, STEP_S)  # what this process slept itself does not count
        self._tick = now
        # Whoever owes nothing may be silent: it begins to count when something is lent.
        self._heard = {rank: self._heard.get(rank, self._clock) for rank in watched()}
        return [(rank, _limit_of(rank)) for rank in self._heard if self._is_too_long(rank)]

    def _is_too_long(self, rank: int) -> bool:
        """Whether a rank has been silent for too long; it is asked before."""
        quiet, limit = self._clock - self._heard[rank], _limit_of(rank)
        if quiet > limit:
            return True
        pause = limit / PINGS
        if quiet > pause and self._clock - self._asked.get(rank, -pause) >= pause:
            self._asked[rank] = self._clock
            self._ask(rank)
        return False


def _limit_of(rank: int) -> float:
    return SILENT_S if rank else PRIMARY_SILENT_S
