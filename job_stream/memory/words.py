"""The board: shared memory through which processes see each other without a message.

The rank raises flags that lanes look at between two steps. Each child notes what it is working on, so that it can be
told even after its death. And whoever has read a segment of shared memory marks it as free for the child that owns it.
Every word has one writer at a time, so there is nothing to lock.

A run may have any number of children one after the other, since whoever dies is replaced. So each child has a slot for
as long as it lives, which the rank gives it, and which goes to another one after its death.
"""

from __future__ import annotations

import mmap
import os
from typing import Protocol

from ..errors import LimitError

__all__ = [
    "ALL_CPUS", "ENDING", "MEMORY", "NOTE_CPU", "NOTE_LEAVING", "NOTE_LOAN", "NOTE_PLACE", "NOTE_STARTED", "NOTE_UNIT",
    "NOTE_WALL", "OWN_CPUS", "PAUSED", "REPORTS", "SEGMENTS", "WANTED", "SharedWords", "Words",
]  # fmt: skip

WANTED, PAUSED = 0, 1
"""Flags that are up while somebody has nothing to do, and while results are not taken."""

OWN_CPUS, ALL_CPUS, REPORTS = 2, 3, 4
"""Flags that hold how many lanes this rank has, and all ranks together; and how often lanes were asked to report."""

MEMORY = 6
"""A flag that holds how many bytes values may take on this rank (0: nobody has said it yet)."""

ENDING = 5
"""A flag that is up when the run ends early: what lanes still have is of no interest. WANTED is up as well."""

NOTE_UNIT, NOTE_PLACE, NOTE_STARTED, NOTE_LOAN, NOTE_WALL, NOTE_CPU, NOTE_LEAVING = range(7)
"""The words of a note."""

_HEADER = 64
_SLOT = 1024
_NOTE = 64
_SLOTS = 4096
_SIZE = _HEADER + _SLOT * _SLOTS
SEGMENTS = _SLOT - _NOTE


class Words(Protocol):
    """Numbers that are written by one process or thread, and read by others: the flags of a rank, or the note of a
    child. In a process they are shared memory, in a thread a list."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


def _mapped(shared: bool | int) -> mmap.mmap:
    if shared is True:
        return mmap.mmap(-1, _SIZE)
    os.ftruncate(shared, _SIZE)
    return mmap.mmap(shared, _SIZE)


class SharedWords:
    """Flags, and a slot for each child that lives.

    Args:
        shared: with the processes that are forked; or the descriptor of a memory file that others have, too.
    """

    def __init__(self, shared: bool | int = True) -> None:
        self._memory = memoryview(_mapped(shared) if shared is not False else bytearray(_SIZE))
        self._words = self._memory.cast("q")
        self.flags = self._words[: _HEADER // 8]
        self._slots: dict[int, int] = {}
        self._vacant: list[int] = []
        self._used = 0

    # slots: the rank gives them, the child is told --------------------------------------------------------------------

    def seat(self, child: int) -> int:
        """Gives a child a slot as good as new, and tells its number.

        Raises:
            LimitError: there are too many children at a time.
        """
        slot = self._slots[child] = self._vacant.pop() if self._vacant else self._next()
        self.clear(child)
        return slot

    def _next(self) -> int:
        if self._used == _SLOTS:
            raise LimitError(f"a run has {_SLOTS - 1:,} workers at a time at most: use fewer (cpus=)")
        self._used += 1
        return self._used - 1

    def seat_of(self, child: int) -> int:
        """The slot of a child."""
        return self._slots[child]

    def take(self, child: int, slot: int) -> None:
        """In the child's own process: it has been given this slot."""
        self._slots[child] = slot

    def leave(self, child: int) -> None:
        """The child is dead, and what it had noted has been read."""
        self._vacant.append(self._slots.pop(child))

    def _start(self, child: int) -> int:
        slot = self._slots.get(child)
        return _HEADER + (self.seat(child) if slot is None else slot) * _SLOT

    # what is in them --------------------------------------------------------------------------------------------------

    def note(self, child: int) -> memoryview[int]:
        """The words in which a child notes its work: unit, place, start of a timed call in ns, loan; the time that it
        has spent on user code so far, wall and CPU, in ns; and whether it has begun to leave.

        A place below 0 is one whose values are being unpickled: -1 less its number.
        """
        start = self._start(child) // 8
        return self._words[start : start + _NOTE // 8]

    def free(self, child: int) -> memoryview:
        """One byte for each segment of a child: whether it is free."""
        start = self._start(child)
        return self._memory[start + _NOTE : start + _SLOT]

    def clear(self, child: int) -> None:
        """Makes the slot of a child as good as new."""
        start = self._start(child)
        self._memory[start : start + _SLOT] = bytes(_SLOT)
