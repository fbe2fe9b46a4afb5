"""Shared memory that this process keeps mapped: to copy from there takes half as long as to read it from its file."""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict

from ..errors import PayloadError
from ..ground.limits import files_for_one, named

__all__ = ["Mappings", "mappings"]

MAPPED_BYTES = 256 << 20


class Mappings:
    """The segments that were read last.

    Attributes:
        limit: bytes that may stay mapped; what is mapped is not given back to the system by its owner.
        mapped: bytes that are.
    """

    def __init__(self) -> None:
        self.limit = MAPPED_BYTES
        self.renew()

    def renew(self) -> None:
        """Forgets all; also in a forked process, where another thread may have held the lock for ever."""
        self._known: OrderedDict[int, memoryview] = OrderedDict()
        self.mapped = 0
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Gives back what is mapped, but for stretches that are in use: who owned it is gone."""
        with self._lock:
            self._known.clear()
            self.mapped = 0

    def keep_at_most(self, nbytes: int) -> None:
        """So much may stay mapped by this process."""
        self.limit = min(nbytes, MAPPED_BYTES)

    def stretch(self, fd: int, offset: int, size: int) -> memoryview:
        """A stretch of shared memory to read.

        Raises:
            PayloadError: it is shorter.
        """
        file = os.fstat(fd)
        if file.st_size < offset + size:
            raise PayloadError("a segment of shared memory is shorter than announced")
        with self._lock:
            whole = self._known.pop(file.st_ino, None)
            if whole is None or len(whole) < offset + size:
                self.mapped -= len(whole or b"")
                with named("memory files cannot be mapped"):
                    whole = memoryview(mmap.mmap(fd, file.st_size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ))
                self.mapped += len(whole)
            self._known[file.st_ino] = whole  # as long as it is here, no other file can have this number
            while self.mapped > self.limit or len(self._known) > files_for_one():  # each has its file open
                self.mapped -= len(self._known.popitem(last=False)[1])
        return whole[offset : offset + size]


mappings = Mappings()
"""Those of this process."""

os.register_at_fork(after_in_child=mappings.renew)
