"""The bytes of a checkpoint: how they are written, and how they are verified.

::

    magic, format, flags, length of the header, crc32 of all these and the header
    header      msgpack: what ``checkpointInfo`` tells
    digest      BLAKE2b of everything so far
    records     length, crc32, up to 1 MiB of the state (see ``envelope``); one of length 0 is the end
    digest      BLAKE2b of everything so far

The checksums of header and records say where damage is, the digests say that all is as it was written. Digests are
keyed where ``JOBS_CHECKPOINT_KEY`` is set, and a file without a key is refused there.
"""

from __future__ import annotations

import hmac
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable
from typing import Any, BinaryIO, NamedTuple

import msgpack

from ..ground.environment import CHECKPOINT_KEY
from ..stream.fingerprint import Stages
from .disk import DISK, Disk
from .encoding import load
from .trust import DIGEST_BYTES, CheckpointError, DamagedError, Secret

__all__ = ["FORMAT", "Header", "Reading", "write_checkpoint"]

FORMAT = 2
MAGIC = b"\x8eJSCKPT\n"
RECORD_BYTES = 1 << 20
_FRONT = struct.Struct("<8sHHI")
_RECORD = struct.Struct("<II")
_CRC = struct.Struct("<I")
_KEYED = 1
_PURPOSES = (b"js checkpt head", b"js checkpt file")


class Header(NamedTuple):
    """What a checkpoint says of itself.

    Args:
        run_id: 32 hexadecimal digits, the same over all resumes.
        stages: the fingerprint of the plan.
        open: how many tasks are still to be done.
        by_stage: the same for each stage, by its name.
        nbytes: bytes of their payloads.
        delivered: how many results have been taken.
        mark: how far the journal was.
        written: seconds since 1970; filled in when it is written.
    """

    run_id: str
    stages: Stages
    open: int
    by_stage: tuple[tuple[str, int], ...]
    nbytes: int
    delivered: int
    mark: int = 0
    written: float = 0.0


def write_checkpoint(fd: int, secret: Secret, header: Header, state: Iterable[Any], disk: Disk = DISK) -> None:
    """Writes a whole checkpoint; ``state`` are the chunks of it."""
    writing = _Writing(fd, secret, disk)
    writing.header(header)
    for chunk in state:
        writing.feed(chunk)
    writing.end()


class _Writing:
    """Writes one file from beginning to end."""

    def __init__(self, fd: int, secret: Secret, disk: Disk) -> None:
        self._disk = disk
        self._fd = fd
        self._end = 0
        self._flags = _KEYED if secret.is_set else 0
        self._head, self._whole = (secret.digest(purpose) for purpose in _PURPOSES)
        self._record = bytearray()

    def header(self, header: Header) -> None:
        body: bytes = msgpack.packb(header._asdict())
        front = _FRONT.pack(MAGIC, FORMAT, self._flags, len(body))
        data = front + _CRC.pack(zlib.crc32(front + body)) + body
        self._head.update(data)
        self._write(data + self._head.digest())

    def feed(self, chunk: Any) -> None:
        """Adds a part of the state; what is written are records of equal length."""
        view = memoryview(chunk)
        while view:
            part = view[: RECORD_BYTES - len(self._record)]
            self._record += part
            view = view[len(part) :]
            if len(self._record) == RECORD_BYTES:
                self._flush()

    def _flush(self) -> None:
        self._write(_RECORD.pack(len(self._record), zlib.crc32(self._record)))
        self._write(self._record)
        self._record = bytearray()

    def end(self) -> None:
        if self._record:
            self._flush()
        self._flush()
        self._end = self._disk.write_all(self._fd, self._whole.digest(), self._end)

    def _write(self, data: bytes | bytearray) -> None:
        self._whole.update(data)
        self._end = self._disk.write_all(self._fd, data, self._end)


class Reading:
    """Reads one file, once: first its header, then all of it to verify it. Its state is made from what was verified,
    since the file may be another one by then."""

    def __init__(self, path: str, file: BinaryIO, secret: Secret) -> None:
        self._path = path
        self._file = file
        self._secret = secret
        self._run_id: str | None = None
        self._head, self._whole = (secret.digest(purpose) for purpose in _PURPOSES)
        self._size = file.seek(0, os.SEEK_END)
        self._begin = file.seek(0)
        self._records: deque[bytes] = deque()
        self._rest = memoryview(b"")

    def header(self) -> Header:
        """The header, verified."""
        front = self._front()
        _, version, flags, length = _FRONT.unpack(front)
        if version != FORMAT:
            raise CheckpointError(f"{self._path} has format {version}, and this version of job_stream reads format "
                                  f"{FORMAT}: resume with the version that wrote it")  # fmt: skip
        crc = self._hashed(_CRC.size)
        body = self._hashed(min(length, self._size))
        if len(body) < length:
            raise self._damaged("its end is missing")
        if _CRC.pack(zlib.crc32(front + body)) != crc:
            raise self._damaged("its header has been changed (crc32)")
        self._check_key(bool(flags & _KEYED))
        self._head.update(front + crc + body)
        self._check_digest(self._head)
        self._begin = self._file.tell()
        header = self._understood(body)
        self._run_id = header.run_id
        return header

    def _front(self) -> bytes:
        front = self._file.read(_FRONT.size)
        if not MAGIC.startswith(front[: len(MAGIC)]):
            raise CheckpointError(f"{self._path} is not a checkpoint of job_stream: give another name, or remove it")
        if len(front) < _FRONT.size:
            raise self._damaged("its end is missing" if front else "it is empty")
        self._whole.update(front)
        return front

    def _check_key(self, is_keyed: bool) -> None:
        if is_keyed and not self._secret.is_set:
            raise CheckpointError(f"{self._path} was written with a key: set {CHECKPOINT_KEY} to the name of its file")
        if self._secret.is_set and not is_keyed:
            raise CheckpointError(f"{self._path} was written without a key, so anybody may have done it: unset "
                                  f"{CHECKPOINT_KEY} if you trust it, or remove it")  # fmt: skip

    def _check_digest(self, digest: Any) -> None:
        found = self._file.read(DIGEST_BYTES)
        self._whole.update(found)
        if len(found) < DIGEST_BYTES:
            raise self._damaged("its end is missing")
        if not hmac.compare_digest(found, digest.digest()):
            if self._secret.is_set and digest is self._head:
                raise CheckpointError(f"{self._path} was written with another key, or changed since: set "
                                      f"{CHECKPOINT_KEY} to the file it was written with, or remove it")  # fmt: skip
            raise self._damaged("it has been changed (digest)")

    def _understood(self, body: bytes) -> Header:
        try:
            return Header(**msgpack.unpackb(body, use_list=False))
        except Exception as error:
            raise CheckpointError(f"the header of {self._path} makes no sense to this version of job_stream "
                                  f"({error}): resume with the version that wrote it") from error  # fmt: skip

    def verify(self) -> None:
        """Reads all records."""
        while record := self._record():
            self._records.append(record)
        self._check_digest(self._whole.copy())
        if self._file.read(1):
            raise self._damaged("something follows its end")

    def state(self) -> Any:
        """What the records hold; verified before. It can be had once, since they are let go on the way."""
        try:
            return load(self._read)
        except CheckpointError as error:
            raise CheckpointError(f"{self._path}: {error}") from error

    def _read(self, size: int) -> bytes:
        """The next bytes of the state."""
        if size <= len(self._rest):
            part, self._rest = self._rest[:size], self._rest[size:]
            return bytes(part)
        parts = []
        while size > len(self._rest):
            parts.append(self._rest)
            size -= len(self._rest)
            if not self._records:
                raise self._damaged("its state ends too soon")
            self._rest = memoryview(self._records.popleft())
        parts.append(self._rest[:size])
        self._rest = self._rest[size:]
        return b"".join(parts)

    def _record(self) -> bytes:
        """The next record; nothing: it was the last one."""
        place = self._file.tell() - self._begin
        length, crc = _RECORD.unpack(self._hashed(_RECORD.size))
        if length > RECORD_BYTES:
            raise self._damaged(f"the record {place:,} bytes behind its header has been changed (length)")
        data = self._hashed(length)
        if zlib.crc32(data) != crc:
            raise self._damaged(f"the record {place:,} bytes behind its header has been changed (crc32)")
        return data

    def _hashed(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise self._damaged("its end is missing")
        self._whole.update(data)
        return data

    def _damaged(self, reason: str) -> DamagedError:
        return DamagedError(f"checkpoint {self._path} is damaged: {reason}", self._run_id)
