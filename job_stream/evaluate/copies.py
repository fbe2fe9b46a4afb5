"""Copies of values that a function is about to have, which may change them.

A value that came of a stage before is with its lane alone. To repay all around it while its function has it, the lane
has to describe it to the rank as it was before that. So where a call is known to take long, or nothing is known yet,
the value is copied first, if that is cheap beside the call; values that nobody can change need no copy.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from .pace import Pace
from .packing import Packing

__all__ = ["Copies"]

LONG_S = 5e-3
SHARE = 0.01
"""Of the time of a call, which copying its value may take."""
MOST_BYTES = 1 << 20


class Copies:
    """Makes them.

    Args:
        pace: how long calls take.
        packing: of values into payloads.
    """

    def __init__(self, pace: Pace, packing: Packing) -> None:
        self._pace = pace
        self._packing = packing
        self._dear: set[int] = set()

    def take(self, place: int, value: Any) -> Any:
        """A copy of the value that a place is about to have, as a payload; None: there is none."""
        cost = self._pace.costs[place]
        if (cost is not None and cost < LONG_S) or place in self._dear or self._packing.may_pack(value):
            return None
        began = perf_counter()
        copy = self._packing.copy(value)
        took = perf_counter() - began
        if copy is None or copy.nbytes > MOST_BYTES or took > SHARE * max(cost or 0.0, LONG_S):
            self._dear.add(place)
        return copy
