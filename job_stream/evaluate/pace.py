"""How many values an evaluator works on at a step: as many as take about half a millisecond, and fit into memory.

So the time between two steps stays short for slow functions, and the cost of a step is spread over many values for
fast ones. Values that are large are fewer, however fast they come (``weights``).
"""

from __future__ import annotations

from time import perf_counter

from ..stream.plan import Place
from .weights import Gathered

__all__ = ["BATCH_MOST", "Pace"]

BATCH_S = 5e-4
SHORT_S, LONG_S = BATCH_S / 2, 2 * BATCH_S
"""Batches that take less or more than this have another size the next time."""
BATCH_MOST = 4096


class Pace:
    """What has been measured, by place.

    Args:
        places: how many there are.
        gathered: knows how the process grows.

    Attributes:
        costs: seconds that a value takes at each place, where that is known.
        batches: how many values are the next batch at each place.
        most: how many values may be taken at once at each place, by what those before them held.
        now: when the last step ended.
    """

    def __init__(self, places: int, gathered: Gathered) -> None:
        self.costs: list[float | None] = [None] * places
        self.batches = [1] * places
        self.most = [BATCH_MOST] * places
        self._gathered = gathered
        self.now = perf_counter()

    def measure(self, place: int, started: float, count: int) -> None:
        """Takes the time of a batch and adapts the next one's size."""
        self.now = now = perf_counter()
        took = now - started
        if took < SHORT_S:
            if count >= self.batches[place] < BATCH_MOST:
                self._grow(place, count)
        elif took > LONG_S:
            self.batches[place] = max(1, int(BATCH_S * count / took))
        cost, before = took / (count or 1), self.costs[place]
        self.costs[place] = cost if before is None else before + 0.3 * (cost - before)

    def _grow(self, place: int, count: int) -> None:
        """The next batch is to be larger, if the process has not grown much with this one."""
        self.batches[place] *= 2
        self.weighed(place, count, self._gathered.growth())

    def begin_anew(self) -> None:
        """The process has grown much, nobody knows by what: all batches are small, and grow from there."""
        self.batches[:] = [1] * len(self.batches)

    def weighed(self, place: int, count: int, nbytes: int) -> None:
        """A batch of so many values has led to so many bytes: the next one is to stay below what may gather if it has
        twice as many values. One that weighed little lets the next ones grow."""
        limit = self._gathered.limit
        if 2 * nbytes > limit:
            self.most[place] = max(1, count * limit // (2 * nbytes))
            self.batches[place] = min(self.batches[place], self.most[place])
        elif count >= self.most[place]:
            self.most[place] = min(2 * self.most[place], BATCH_MOST)

    def notice(self, place: int, seconds: float) -> None:
        """A value takes so long as nobody expected: those after it may, too."""
        self.costs[place] = max(self.costs[place] or 0.0, seconds)
        self.batches[place] = max(1, min(self.batches[place], int(BATCH_S / seconds)))

    def resemble(self, switch: Place) -> None:
        """Has a switch, which costs nothing itself, look like the places behind it, as far as they are known."""
        known = [goal for goal in switch.routes.values() if self.costs[goal] is not None]
        self.batches[switch.number] = min((self.batches[goal] for goal in known), default=1)
        self.costs[switch.number] = max((self.costs[goal] or 0.0 for goal in known), default=None)
