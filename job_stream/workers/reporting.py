"""When a lane is to hand over what is under way, so that the rank has a record of it for a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import perf_counter

from ..memory.words import REPORTS, Words

__all__ = ["REPORT_S", "Reporting"]

REPORT_S = 0.5
"""Where checkpoints are written, what is under way is reported so often unasked."""
REPORT_SHARE = 50
"""Reporting unasked may take one part in so many."""


class Reporting:
    """Knows when it was done last.

    Args:
        flags: that the rank sets: how often it has asked.
        pause_s: after so long it is reported unasked, too.
    """

    def __init__(self, flags: Words, pause_s: float) -> None:
        self._flags = flags
        self._answered = flags[REPORTS]
        self._pause_s = pause_s
        self._next = inf

    def begin_parcel(self, now: float) -> None:
        """Nothing is under way yet."""
        self._next = now + self._pause_s

    @property
    def is_asked(self) -> bool:
        """Whether the rank has asked since it was answered."""
        return self._answered != self._flags[REPORTS]

    def is_due(self, now: float) -> bool:
        """Whether it is to be done now."""
        return now >= self._next or self.is_asked

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Within, it is done. Who asks meanwhile may be too late for that."""
        self._answered = self._flags[REPORTS]
        began = perf_counter()
        yield
        now = perf_counter()
        self._next = now + max(self._pause_s, REPORT_SHARE * (now - began))
