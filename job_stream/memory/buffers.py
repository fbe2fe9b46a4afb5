"""Shared memory of the script's own process: for values on their way to lanes, and for what comes from other ranks."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import Any

from ..ground.forks import disown, own
from ..ground.limits import are_files_scarce
from .arena import FREE_BYTES, Arena
from .codec import INLINE_BYTES
from .payload import Blob, MemorySegment, Parts
from .words import SEGMENTS

__all__ = ["Buffers", "plain_room"]


def plain_room(size: int) -> tuple[memoryview, bytearray]:
    """Room in memory of this process alone."""
    body = bytearray(size)
    return memoryview(body), body


class Buffers:
    """Turns packed values into blobs, the large ones in shared memory of this process."""

    def __init__(self) -> None:
        self._free = bytearray(SEGMENTS)
        self._arena = Arena(self._free)
        self._lock = threading.Lock()
        own(self)

    def stow(self, parts: Parts) -> Blob:
        lengths = [len(frame) for frame in parts.frames]
        if parts.nbytes <= INLINE_BYTES:
            return Blob(lengths, None, 0, b"".join(parts.frames))
        with self._lock:
            number, fd = self._kept(*self._arena.write(parts.frames))
        if fd is None:
            return Blob(lengths, None, 0, b"".join(parts.frames))
        return Blob(lengths, MemorySegment(fd, -1, number, self._release), 0, None)

    def room(self, size: int) -> tuple[memoryview, Any]:
        """Memory for a message body that is about to come, and what stands for it."""
        if size <= INLINE_BYTES:
            return plain_room(size)
        with self._lock:
            number, fd = self._kept(*self._arena.reserve(size))
            if fd is None:
                return plain_room(size)
            memory = memoryview(mmap.mmap(fd, size)) if number == SEGMENTS else self._arena.memory(number, size)
        return memory[:size], MemorySegment(fd, -1, number, self._release)

    def _kept(self, number: int, fd: int) -> tuple[int, int | None]:
        """A memory file of which the arena knows no more is kept here, unless there are too many already (None)."""
        if number < SEGMENTS:
            return number, fd
        kept = None if are_files_scarce(fd) else _duplicate(fd)
        self._arena.sent()
        return number, kept

    def _release(self, owner: int, number: int, fd: int) -> None:
        if number == SEGMENTS:
            os.close(fd)
        else:
            self._free[number] = 1

    def keep_at_most(self, nbytes: int) -> None:
        """So much is kept for what comes next."""
        self._arena.most_free = min(nbytes, FREE_BYTES)

    def close(self) -> None:
        self._arena.close()
        disown(self)

    def let_go(self) -> None:
        """In a process that was forked meanwhile."""
        self._lock = threading.Lock()
        self._arena.close()


def _duplicate(fd: int) -> int | None:
    """Another descriptor; None: there can be none, as other threads have opened files meanwhile."""
    try:
        return os.dup(fd)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return None
