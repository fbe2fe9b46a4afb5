"""Until when lanes are busy, as far as it can be known; other ranks are lent to, and asked, by that."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from math import inf

from .ledger import Loan, Piece
from .parcels import Costs
from .priorities import Times

__all__ = ["Forecast"]

SAMPLE = 32
"""What a parcel of more pieces takes is estimated from so many of them, as it is looked at often."""
LATE_S = 5e-3
"""A lane that is so late has a longer item than was to be expected."""


class Forecast:
    """Until when the lanes of a rank are busy.

    Args:
        costs: what items took so far.
    """

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._until: dict[int, float] = {}
        self._ahead = Times()
        self._due = Times()  # the same, but for those that are a little late

    def lent(self, lane: int, pieces: Collection[Piece], busy: bool, now: float) -> None:
        """A lane will be busy with these pieces, too."""
        begin = self._until.get(lane, inf) if busy else now
        self._note(lane, begin + self._seconds(pieces))

    def has_left(self, lane: int, loans: Iterable[Loan], now: float) -> None:
        """These are all that a lane has to do."""
        self._note(lane, now + sum(self._seconds(loan.units.values()) for loan in loans))

    def _note(self, lane: int, until: float) -> None:
        self._until[lane] = until
        for times in (self._ahead, self._due):
            if until < inf:
                times.put(lane, until)
            else:
                times.discard(lane)

    def _seconds(self, pieces: Collection[Piece]) -> float:
        """About how long they will take."""
        estimate = self._costs.estimate
        sample = sum(estimate(piece.work.place, piece.work.count, inf) for piece in islice(pieces, SAMPLE))
        return sample * max(len(pieces) / SAMPLE, 1.0)

    def died(self, lane: int) -> None:
        self._until.pop(lane, None)
        self._ahead.discard(lane)
        self._due.discard(lane)

    def idle_at(self, now: float) -> float | None:
        """When the next lane will have nothing to do, if it is known and not long past; None: it is not."""
        return self._due.first(now - LATE_S)

    def left(self, now: float) -> float:
        """About how many seconds of work lanes hold."""
        return self._ahead.left(now)
