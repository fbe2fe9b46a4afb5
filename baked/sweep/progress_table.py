"""How far a sweep is, in memory that this process and all it forks share.

Each combination has a slot of its own, which whoever takes in a trial of it overwrites. So nothing has to be locked or
added up, and what is written twice does no harm. Other ranks have boards of their own; what happens there is known here
when a combination is done.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

__all__ = ["ProgressTable", "TrialCounts"]

SLOT = 3


class TrialCounts(NamedTuple):
    """What can be said about the progress.

    Attributes:
        done: combinations that are complete.
        combinations: how many there are.
        trials: that have ended.
        expected: trials that there will be, as far as can be told; None: nothing is known yet.
        earlier: trials that were taken over from earlier runs.
    """

    done: int
    combinations: int
    trials: int
    expected: int | None
    earlier: int = 0


class ProgressTable:
    """Slots for so many combinations."""

    def __init__(self, combinations: int) -> None:
        memory = memoryview(mmap.mmap(-1, 8 * (SLOT * combinations + 1))).cast("q")
        self._slots, self._earlier = memory[:-1], memory[-1:]

    def note(self, id: int, trials: int, needed: int, done: bool = False) -> None:
        """Says how far a combination is."""
        at = SLOT * id
        self._slots[at], self._slots[at + 1], self._slots[at + 2] = trials, needed, done

    def begin(self) -> None:
        """Says that all trials noted so far are those of earlier runs."""
        self._earlier[0] = self.figures().trials

    def is_done(self, id: int) -> bool:
        return bool(self._slots[SLOT * id + 2])

    def figures(self) -> TrialCounts:
        trials, needed, done = (self._slots[part::SLOT].tolist() for part in range(SLOT))
        known = [max(pair) for pair in zip(trials, needed, strict=True) if pair[1]]
        expected = round(sum(known) / len(known) * len(needed)) if known else None
        return TrialCounts(sum(done), len(done), sum(trials), expected, self._earlier[0])
