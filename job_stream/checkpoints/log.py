"""A file that only grows: a head, a counter in the head, and entries, each with a digest of its own.

What is written survives the death of the process at once (the kernel has it), and that of the machine after ``sync``.
Appending never fails: what the disk does not take waits in memory, and ``sync`` says so. What is postponed waits there
anyway, until there is much of it or until ``sync``. An entry that was cut short by the end of the process is no damage;
it counts as never written.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from .disk import DISK, Disk
from .trust import CheckpointError, DamagedError, Secret, named, open_trusted

__all__ = ["LogEntry", "LogFile"]

FORMAT = 2
MAGIC = b"\x8eJSJRNL\n"
_HEAD = struct.Struct("<8sII32s")
_COUNTER = 48
_DIGEST = 56
_DIGEST_BYTES = 16
HEAD_BYTES = 72
_FRONT = struct.Struct("<IIqqQ")
_ENTRY_BYTES = _DIGEST_BYTES + _FRONT.size
POSTPONED_BYTES = 16 << 20


class LogEntry(NamedTuple):
    """One entry, and where it ends."""

    kind: int
    number: int
    count: int  # type: ignore[assignment]
    data: bytes
    end: int


class _Waiting(NamedTuple):
    """An entry that is not in the file yet; its digest depends on its place there."""

    front: bytes
    data: bytes


class LogFile:
    """The file, open.

    Args:
        path: where it is.
        content: what is in it; a number.
        run_id: whose it is, 32 hexadecimal digits.
        disk: that it is on.

    Raises:
        CheckpointError: the file is not this one, or another process uses it.
        OSError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], content: int, run_id: str, disk: Disk = DISK) -> None:
        self.path = os.fspath(path)
        self.begin = HEAD_BYTES
        self.warning = ""
        self._front = _HEAD.pack(MAGIC, FORMAT, content, run_id.encode())
        self._disk = disk
        self._secret = Secret()
        self._fd = -1
        self._memory: mmap.mmap | None = None
        self._end = self._durable = self.begin
        self._is_doubtful = False
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._lock = threading.Lock()

    # beginning --------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Begins an empty file. A journal that is there already is overwritten: it belongs to no checkpoint."""
        self._fd = self._open(os.O_RDWR | os.O_CREAT)
        try:
            if not _is_nobodys(self._disk.pread(self._fd, HEAD_BYTES + 1, 0)):
                raise CheckpointError(f"{self.path} is not a journal of job_stream: give the checkpoint another name")
            self._disk.ftruncate(self._fd, 0)
            head = self._front + bytes(8) + self._digest(0, self._front)
            self._disk.write_all(self._fd, head, 0)
            self._disk.fsync(self._fd)
            self._disk.sync_folder(self.path)
            self._map()
        except BaseException:
            self.close()
            raise

    def open(self, mark: int) -> None:
        """Opens the file of a run that goes on.

        Args:
            mark: up to here the file is known to be durable.
        """
        try:
            self._fd = self._open(os.O_RDWR)
        except FileNotFoundError:
            raise CheckpointError(f"{self.path} is missing, and the checkpoint needs it: bring it back, or remove the "
                                  "checkpoint to begin anew") from None  # fmt: skip
        try:
            self._check_head(self._disk.pread(self._fd, HEAD_BYTES, 0))
            self._disk.sync_folder(self.path)
            self._map()
            self._durable, self._is_doubtful = max(self.begin, mark), True  # whoever wrote the rest may have failed
        except BaseException:
            self.close()
            raise

    def _open(self, flags: int) -> int:
        """Opens it for this process alone. The lock goes with the first descriptor that is closed: make no other."""
        fd = open_trusted(self.path, flags, self._disk)
        if not self._disk.lock(fd):
            self._disk.close(fd)
            raise CheckpointError(f"{self.path} is in use by another process: let that run end, or give another "
                                  "checkpointFile")  # fmt: skip
        return fd

    def _map(self) -> None:
        self._memory = self._disk.map(self._fd, HEAD_BYTES)
        self._cells = memoryview(self._memory).cast("Q")

    def _check_head(self, head: bytes) -> None:
        """Whether this is the head that ``create`` wrote."""
        if not head.startswith(MAGIC):
            raise CheckpointError(f"{self.path} is not a journal of job_stream: {_WAYS_OUT}")
        if len(head) < HEAD_BYTES:
            raise self.damaged("its head is incomplete")
        _, version, content, run_id = _HEAD.unpack_from(head)
        _, our_version, our_content, our_run_id = _HEAD.unpack(self._front)
        if version != our_version:
            raise CheckpointError(f"{self.path} has format {version}, and this version of job_stream reads format "
                                  f"{FORMAT}: resume with the version that wrote it")  # fmt: skip
        if self._digest(0, head[: _HEAD.size]) != head[_DIGEST:]:
            raise self.damaged("its head has been changed")
        if run_id != our_run_id:
            raise CheckpointError(f"{self.path} is of another run than the checkpoint: {_WAYS_OUT}")
        if content != our_content:
            raise CheckpointError(f"{self.path} is of a stream that ends otherwise (one has a result function, one has "
                                  "none): run the script that wrote it, or give another checkpointFile")  # fmt: skip

    # writing ----------------------------------------------------------------------------------------------------------

    @property
    def counter(self) -> int:
        """A number that outlives this process at any moment."""
        return self._cells[_COUNTER // 8]

    @counter.setter
    def counter(self, value: int) -> None:
        self._cells[_COUNTER // 8] = value

    @property
    def mark(self) -> int:
        """How far the file is, with what waits."""
        with self._lock:
            return self._end + self._waiting_bytes

    def append(self, kind: int, number: int, count: int, data: bytes) -> None:
        """Adds an entry, in one write."""
        with self._lock:
            self._wait(kind, number, count, data)
            with suppress(OSError):
                self._write()

    def postpone(self, kind: int, number: int, count: int, data: bytes) -> None:
        """Adds an entry that will be written some time before ``sync`` returns."""
        with self._lock:
            self._wait(kind, number, count, data)
            if self._waiting_bytes > POSTPONED_BYTES:
                with suppress(OSError):
                    self._write()

    def _wait(self, kind: int, number: int, count: int, data: bytes) -> None:
        self._waiting.append(_Waiting(_front_of(kind, number, count, data), data))
        self._waiting_bytes += _ENTRY_BYTES + len(data)

    def _write(self) -> None:
        while self._waiting:
            front, data = self._waiting[0]
            try:
                self._end = self._put(self._end, front, data)
            except OSError:
                with suppress(OSError):
                    self._disk.ftruncate(self._fd, self._end)
                raise
            self._waiting.popleft()
            self._waiting_bytes -= _ENTRY_BYTES + len(data)

    def _put(self, offset: int, front: bytes, data: bytes) -> int:
        """Writes one entry; gives where it ends."""
        return self._disk.write_all(self._fd, b"".join((self._digest(offset, front, data), front, data)), offset)

    def sync(self) -> None:
        """Makes all of it durable. One thread at a time may do that.

        Raises:
            OSError: that is not possible now; what was to be written waits for the next time.
        """
        try:
            with self._lock:
                if self._is_doubtful:
                    self._write_again()
                self._write()
                end = self._end
            self._force()
        except OSError as error:
            raise named(error, self.path) from error
        self._durable, self._is_doubtful = end, False

    def _force(self) -> None:
        """After a failure the system takes what it could not write for written, and says so the next time."""
        try:
            self._disk.fsync(self._fd)
        except OSError:
            self._is_doubtful = True
            raise

    def _write_again(self) -> None:
        """Writes what may never have reached the disk, if it can still be had; and the head, since the counter is
        next to it."""
        offset = self._durable
        while offset < self._end:
            entry = self._entry(offset)
            if entry is None:
                raise OSError(errno.EIO, "the disk has lost what it had taken before")
            self._put(offset, _front_of(entry.kind, entry.number, entry.count, entry.data), entry.data)
            offset = entry.end
        self._disk.write_all(self._fd, self._front, 0)

    def cut(self, end: int) -> None:
        """Forgets what is behind; the next entry will stand there."""
        self._end = max(self.begin, end)
        self._disk.ftruncate(self._fd, self._end)

    def close(self) -> None:
        """Lets go of the file."""
        if self._memory is not None:
            self._cells.release()
            self._memory.close()
            self._memory = None
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._disk.close(fd)

    # reading ----------------------------------------------------------------------------------------------------------

    def until(self, mark: int) -> Iterator[LogEntry]:
        """The entries up to the mark.

        Raises:
            DamagedError: they are not whole.
        """
        offset = self.begin
        while offset < mark:
            entry = self._entry(offset)
            if entry is None or entry.end > mark:
                raise self.damaged("part of it is missing or has been changed")
            offset = entry.end
            yield entry

    def entries(self, mark: int) -> Iterator[LogEntry]:
        """The entries up to the mark, which must be whole, and those behind it that are."""
        yield from self.until(mark)
        offset = max(self.begin, mark)
        while (entry := self._entry(offset)) is not None:
            offset = entry.end
            yield entry

    def _entry(self, offset: int) -> LogEntry | None:
        """The entry at this place; None: there is no whole one."""
        head = self._read(offset, _ENTRY_BYTES)
        if len(head) < _ENTRY_BYTES:
            return None
        front = head[_DIGEST_BYTES:]
        kind, _, number, count, length = _FRONT.unpack(front)
        if length > self._disk.fstat(self._fd).st_size - offset:
            return None
        data = self._read(offset + _ENTRY_BYTES, length)
        if self._digest(offset, front, data) != head[:_DIGEST_BYTES]:
            self.warning = f"the end of {self.path} is damaged: results handled since the checkpoint may come again"
            return None
        return LogEntry(kind, number, count, data, offset + _ENTRY_BYTES + length)

    def _read(self, offset: int, size: int) -> bytes:
        parts = []
        while size and (part := self._disk.pread(self._fd, size, offset)):
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
        return b"".join(parts)

    def _digest(self, offset: int, *parts: bytes) -> bytes:
        """Of an entry at its place in this run's file, so that it counts nowhere else."""
        digest = self._secret.digest(b"js journal", _DIGEST_BYTES)
        digest.update(self._front + offset.to_bytes(8, "little") if offset else b"")
        for part in parts:
            digest.update(part)
        found: bytes = digest.digest()
        return found

    def damaged(self, reason: str) -> DamagedError:
        hint = ", or it was written with another key" if self._secret.is_set else ""
        return DamagedError(f"{self.path} is damaged{hint}: {reason}; {_WAYS_OUT}")


def _is_nobodys(content: bytes) -> bool:
    """Whether a file that begins so may be overwritten: it is a journal, or what a power failure left of a new one."""
    return MAGIC.startswith(content[: len(MAGIC)]) or (len(content) <= HEAD_BYTES and not any(content))


def _front_of(kind: int, number: int, count: int, data: bytes) -> bytes:
    return _FRONT.pack(kind, 0, number, count, len(data))


_WAYS_OUT = "bring back the one that was there, or remove it and the checkpoint to begin anew"
