"""A batch under a running call: how far it has come, and how what is left of it is taken from it.

The loops in ``calls`` count nothing, since that would cost something for each value. All that can be seen from outside
is their iterator, the list of their outputs, and where the thread stands that runs them. That is enough:

- ``list(iterator)`` takes all that is left at once; under the GIL no value can be begun meanwhile. The loop ends after
  the value that it is at. For this to hold, the iterator must be one of C, over a list, tuple or range.
- What the iterator has left says how many values have been begun. Only the last of these may be under way.
- A map gives one output for each value. A job may give none or several, so there one has to know whether the last value
  is still in its call, and has given nothing yet, or has just come out of it. The line at which the thread stands in
  ``call_job`` says that: all user code runs at ``CALL_LINES``. Where it stands at another line one comes back later.

Whoever looks from another thread has claimed the *turn* (``turn``). So everything but user code stands still meanwhile.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from . import calls
from .calls import CALL_LINES
from .entries import PendingValues
from .stack import Stack

__all__ = ["ATOMIC", "UnderWay"]

ATOMIC = (list, tuple, range)
"""The kinds of sequences of whose iterators the rest can be taken at once."""


class UnderWay:
    """The batch in user code, if there is one.

    Attributes:
        run: the entry that it came from; None: there is no batch in user code, or one that cannot be divided.
        iterator: gives its values.
        outputs: what has come of them.
        end: the number of the first value of the entry that does not belong to it.
        first: the number of the value that gave the first of the outputs.
        counts: whether there is one output for each value.
        copy: of its only value, if there is one.
        since: when its last value began, if the others have been taken from it.
    """

    __slots__ = ("copy", "counts", "end", "first", "iterator", "outputs", "run", "since")

    def __init__(self) -> None:
        self.run: PendingValues | None = None
        self.iterator: Any = None
        self.outputs: list[Any] = []
        self.end = 0
        self.first = 0
        self.counts = False
        self.copy: Any = None
        self.since: float | None = None

    @property
    def begun(self) -> int:
        """The number of the first value of the entry that has not been begun."""
        return self.end - int(self.iterator.__length_hint__())

    def cut(self, stack: Stack) -> int:
        """Takes what has not been begun from the batch: it is on the stack again. Gives how many values that is."""
        run = self.run
        assert run is not None
        left = len(list(self.iterator))
        run.index = self.end = self.end - left
        if left and stack.top is not run:
            stack.add(run)
        return left

    def finished(self, thread: int) -> int | None:
        """How many of the outputs came of values that are done, in a batch that has been cut; None: nobody can tell."""
        known = len(self.outputs)
        if self.counts:
            return known if self.first + known == self.end - 1 else None
        frame = _outermost(sys._current_frames().get(thread))
        return known if frame is not None and frame.f_lineno in CALL_LINES else None


def _outermost(frame: FrameType | None) -> FrameType | None:
    """The first call of the loop for jobs in a thread: others belong to streams within its jobs."""
    found = None
    while frame is not None:
        if frame.f_code is calls.call_job.__code__:
            found = frame
        frame = frame.f_back
    return found
