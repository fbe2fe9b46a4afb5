"""Whether results pile up at rank 0, where all of them go, and who has been told.

Nothing new is begun anywhere while they do. Rank 0 alone finds that out, and numbers each change: with an odd number
results pile up, with an even one they no longer do. A rank takes up a number only if it is higher than its own, and
passes it on to those who owe it something. So numbers never go round in circles, and two ranks that owe each other
something cannot keep each other paused: there is one origin, and the newest word of it counts.

Whoever was told of a pause is told of its end by the same rank, whether it still owes something or not. Where that
rank has died, the pause ends early: to go on is harmless, and rank 0 numbers the pause anew for those who are left.
"""

from __future__ import annotations

from collections.abc import Iterable

from .messages import Pause, Send

__all__ = ["Pauses"]


class Pauses:
    """What a rank knows of the pauses that rank 0 asks for."""

    def __init__(self) -> None:
        self._change = 0
        self._teller: int | None = None
        self._told: dict[int, int] = {}

    @property
    def paused(self) -> bool:
        """Whether results pile up at rank 0, by what is known here."""
        return self._change % 2 == 1

    def note(self, full: bool) -> None:
        """Rank 0 itself has looked whether they do."""
        if full != self.paused:
            self._change += 1

    def heard(self, rank: int, change: int) -> None:
        """Another rank has told of a change."""
        if change > self._change:
            self._change, self._teller = change, rank

    def died(self, rank: int) -> None:
        """A rank is gone, and will tell of no end."""
        self._told.pop(rank, None)
        if self.paused and self._teller == rank:
            self._change += 1

    def renew(self) -> None:
        """Has everybody who should pause be told once more, since others may have ended the pause early."""
        if self.paused:
            self._change += 2

    def restate(self, others: Iterable[int]) -> None:
        """Has rank 0 tell everybody what holds, in case that somebody has missed it."""
        self._change += 2
        self._told = dict.fromkeys(others, 0)

    def tell(self, debtors: Iterable[int]) -> list[Send]:
        """Passes the newest word on: the begin of a pause to all who owe something, its end to all who know of it."""
        if not (self.paused or self._told):
            return []
        behind = [rank for rank in {*(debtors if self.paused else ()), *self._told}
                  if self._told.get(rank, 0) < self._change]  # fmt: skip
        self._told = {**self._told, **dict.fromkeys(behind, self._change)} if self.paused else {}
        return [Send(rank, Pause(self._change)) for rank in sorted(behind)]
