"""Shared memory for large payloads.

A writer owns segments (memory files without a name, so nothing is left behind whatever dies), copies parts into them,
and passes the descriptor along. A reader copies them out into memory of its own and marks the segment as free. Reuse is
the point: memory that has been touched before is many times faster to write than fresh, and to copy into memory that
stays mapped takes half as long as to write to a file.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

from ..ground.forks import MEMORY_FILE
from ..ground.limits import files_for_one, named
from .payload import MAPPED_FROM, Buffer

__all__ = ["FREE_BYTES", "Arena", "new_memory_file"]

FREE_BYTES = 256 << 20
ROOMY = 8
"""A segment that is so many times as large as what is to be written is left for something else."""


class Arena:
    """The segments that this process writes.

    Args:
        free: one byte for each segment, which its reader sets to 1 when the segment may be written again.
        most_free: so many bytes are kept for what is to be written next.
    """

    def __init__(self, free: bytearray | memoryview, most_free: int = FREE_BYTES) -> None:
        self.most_free = most_free
        self._free = free
        self._fds: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._once: list[int] = []
        self._memory: dict[int, memoryview] = {}

    def write(self, parts: Sequence[Buffer]) -> tuple[int, int]:
        """Copies parts into a segment, one after the other; gives its number and descriptor.

        Raises:
            LimitError: the system does not allow so much at once.
        """
        size = sum(len(part) for part in parts)
        number, fd = self.reserve(size)
        memory = self._memory.get(number)
        if memory is not None and len(memory) >= size:
            _copy(memory, parts)
            return number, fd
        with _allowed(size):
            _write(fd, parts)
        if size >= MAPPED_FROM and number in self._fds:
            self.memory(number, size)  # for the next time
        return number, fd

    def reserve(self, size: int) -> tuple[int, int]:
        """A segment of at least this size, to be written by somebody else; gives its number and descriptor."""
        number, fd = self._segment(size)
        if self._sizes.get(number, 0) < size:
            with _allowed(size):
                os.ftruncate(fd, size)
            if number in self._sizes:
                self._sizes[number] = size
        return number, fd

    def memory(self, number: int, size: int) -> memoryview:
        """The memory of a segment that can be used again; it stays mapped."""
        known = self._memory.get(number)
        if known is None or len(known) < size:
            fd = self._fds[number]
            with named("memory files cannot be mapped"):
                whole = mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
            known = self._memory[number] = memoryview(whole)
        return known

    def _segment(self, size: int) -> tuple[int, int]:
        """A segment that nobody reads: one to be used again, or one for this time only."""
        number = self._acquire(size)
        if number is None:
            self._once.append(new_memory_file())
            return len(self._free), self._once[-1]
        return number, self._fds[number]

    def sent(self) -> None:
        """The message that refers to what was written has gone: segments that cannot be reused may go, too."""
        while self._once:
            os.close(self._once.pop())

    def _acquire(self, size: int) -> int | None:
        """A free segment, the smallest that is large enough; else a new one; None when there are too many."""
        free = [number for number in self._fds if self._free[number]]
        number = self._fitting(free, size)
        if number is not None:
            free.remove(number)
        self._trim(free)
        return self._new(size) if number is None else self._occupy(number)

    def _fitting(self, free: list[int], size: int) -> int | None:
        """The one of the free segments that is written next; None: there is none of about this size."""
        fitting = [number for number in free if size <= self._sizes[number] <= max(ROOMY * size, MAPPED_FROM)]
        if fitting:
            return min(fitting, key=self._sizes.__getitem__)
        return next((number for number in free if size / 4 <= self._sizes[number] < size), None)

    def _new(self, size: int) -> int | None:
        for number in range(min(len(self._free), files_for_one())):
            if number not in self._fds:
                self._fds[number] = new_memory_file()
                self._sizes[number] = 0
                return self._occupy(number)
        return None

    def _occupy(self, number: int) -> int:
        self._free[number] = 0
        return number

    def _trim(self, free: list[int]) -> None:
        """Gives memory back of which there is more than is to be kept, the largest first."""
        total = sum(self._sizes[number] for number in free)
        free.sort(key=self._sizes.__getitem__)
        while total > self.most_free:
            number = free.pop()
            total -= self._sizes.pop(number)
            self._memory.pop(number, None)
            os.close(self._fds.pop(number))

    def close(self) -> None:
        self.sent()
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self._memory.clear()


def _allowed(size: int) -> AbstractContextManager[None]:
    """Within, memory files grow to a size, which the limit for files may not allow: it counts for these, too."""
    return named(f"{size:,} bytes cannot travel between processes at once")


def new_memory_file() -> int:
    """The descriptor of an empty one; a process that is forked from here lets go of it.

    Raises:
        LimitError: there can be no more.
    """
    with named("there can be no more memory files"):
        return os.memfd_create(MEMORY_FILE, os.MFD_CLOEXEC)


def _copy(memory: memoryview, parts: Sequence[Buffer]) -> None:
    start = 0
    for part in parts:
        memory[start : start + len(part)] = memoryview(part).cast("B")
        start += len(part)


def _write(fd: int, parts: Sequence[Buffer]) -> None:
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    offset = 0
    while views:
        count = os.pwritev(fd, views[:512], offset)
        offset += count
        while views and count >= len(views[0]):
            count -= len(views.pop(0))
        if count:
            views[0] = views[0][count:]
