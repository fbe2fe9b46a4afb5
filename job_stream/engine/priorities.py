"""Numbers and times in order, for tables of which only the first entry is ever wanted: nothing here takes longer the
more there are, but for a heap's logarithm.

A heap cannot forget what lies in its midst. So it keeps that until it comes to the top, and beside it stands what is
still true.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

__all__ = ["Lowest", "Times"]

SPARE = 64
"""A heap may hold so many entries that are no longer true, and as many as there are true ones."""


class Lowest:
    """A set of numbers that knows its lowest one."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()
        self._heap: list[int] = []
        self._queued: set[int] = set()  # what the heap holds, so that nothing is in it twice

    def add(self, number: int) -> None:
        self._numbers.add(number)
        if number not in self._queued:
            self._queued.add(number)
            heappush(self._heap, number)

    def discard(self, number: int) -> None:
        self._numbers.discard(number)

    @property
    def first(self) -> int | None:
        """The lowest number."""
        while self._heap and self._heap[0] not in self._numbers:
            self._queued.discard(heappop(self._heap))
        return self._heap[0] if self._heap else None

    def __len__(self) -> int:
        return len(self._numbers)


class Times:
    """When something will be over, for each of many numbers; what is over is forgotten."""

    def __init__(self) -> None:
        self._times: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._total = 0.0

    def put(self, number: int, time: float) -> None:
        self.discard(number)
        self._times[number] = time
        self._total += time
        if len(self._heap) > 2 * len(self._times) + SPARE:
            self._heap = [(at, which) for which, at in self._times.items()]
            heapify(self._heap)
        else:
            heappush(self._heap, (time, number))

    def discard(self, number: int) -> None:
        time = self._times.pop(number, None)
        if time is not None:
            self._total = self._total - time if self._times else 0.0

    def first(self, now: float) -> float | None:
        """The earliest time after ``now``."""
        while self._heap:
            time, number = self._heap[0]
            is_true = self._times.get(number) == time
            if is_true and time > now:
                return time
            heappop(self._heap)
            if is_true:
                self.discard(number)
        return None

    def left(self, now: float) -> float:
        """How long it will take from ``now`` on, all times together."""
        self.first(now)
        return max(self._total - now * len(self._times), 0.0)
