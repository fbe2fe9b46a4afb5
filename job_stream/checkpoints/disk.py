"""What the files of a checkpoint ask of the system: descriptors, names, and to make both durable.

It is passed to all that writes or reads these files, so that they can be put on another disk. ``DISK`` is the system's.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from contextlib import suppress
from typing import BinaryIO

__all__ = ["DISK", "Disk"]

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
_LOCKED = (errno.EACCES, errno.EAGAIN)


class Disk:
    """The calls of the system, each under its name in ``os``, and what is made of them."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def isdir(self, path: str) -> bool:
        return os.path.isdir(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def link(self, path: str, other: str) -> None:
        os.link(path, other)

    def replace(self, path: str, other: str) -> None:
        os.replace(path, other)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def lock(self, fd: int) -> bool:
        """Keeps other processes from locking the file; False: one has. It goes with the first descriptor of the file
        that this process closes."""
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _LOCKED  # there are file systems without locks
        return True

    def map(self, fd: int, size: int) -> mmap.mmap:
        """The first bytes of a file as memory."""
        return mmap.mmap(fd, size)

    def reader(self, fd: int) -> BinaryIO:
        """The file from its beginning; closing it closes the descriptor."""
        return os.fdopen(fd, "rb")

    # what is made of them ---------------------------------------------------------------------------------------------

    def lexists(self, path: str) -> bool:
        """Whether there is something of this name, if only a link that leads nowhere."""
        try:
            self.lstat(path)
        except (OSError, ValueError):
            return False
        return True

    def write_all(self, fd: int, data: bytes | bytearray, offset: int) -> int:
        """Writes all of it, in as many calls as the system wants; gives where it ends."""
        view = memoryview(data)
        while view:
            count = self.pwrite(fd, view, offset)
            view, offset = view[count:], offset + count
        return offset

    def sync_folder(self, path: str) -> None:
        """Makes the names in the folder of ``path`` as durable as the files are."""
        fd = self.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fsync(fd)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise
        finally:
            with suppress(OSError):
                self.close(fd)


DISK = Disk()
