"""Values as bytes: pickle protocol 5, with large buffers kept out of the pickle.

``pack`` makes *parts*: the pickle first, then the buffers of large arrays, which are not copied. ``unpack`` takes them
back. A ``Blob`` is packed values on their way: the parts lie in the message itself or, when they are large, in a
segment of shared memory. A ``Live`` payload holds the values themselves, between threads of one process.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from typing import Any

from .errors import PayloadError
from .mappings import mappings

__all__ = ["Blob", "Live", "Parts", "Segment", "pack", "readOnce", "unpack"]

OUT_OF_BAND = 16 << 10
MAPPED_FROM = 1 << 20
"""Payloads from this size on are copied from memory that stays mapped."""
Buffer = bytes | bytearray | memoryview


class Parts:
    """Packed values in this process's own memory."""

    __slots__ = ("frames", "nbytes")

    def __init__(self, frames: list[Buffer]) -> None:
        self.frames = frames
        self.nbytes = sum(len(frame) for frame in frames)


class Live:
    """Values that have not left the process."""

    __slots__ = ("values",)
    nbytes = 0

    def __init__(self, values: Any) -> None:
        self.values = values


class Segment:
    """A stretch of shared memory that somebody else wrote; ``release`` is called when nobody here needs it."""

    __slots__ = ("_owner", "_process", "_release", "fd", "number")

    def __init__(self, fd: int, owner: int, number: int, release: Any) -> None:
        self.fd = fd
        self.number = number
        self._owner = owner
        self._release = release
        self._process = os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self._process:  # a process that was forked meanwhile has nothing to say about it
            self._release(self._owner, self.number, self.fd)


class Blob:
    """Packed values in a message (``data``) or in a segment, from ``offset`` on."""

    __slots__ = ("data", "lengths", "nbytes", "offset", "segment")

    def __init__(self, lengths: Sequence[int], segment: Segment | None, offset: int, data: Buffer | None) -> None:
        self.lengths = tuple(lengths)
        self.segment = segment
        self.offset = offset
        self.data = data
        self.nbytes = sum(self.lengths)

    def frames(self) -> list[Buffer]:
        """The parts; buffers are private to the caller, and writable."""
        if self.segment is None:
            assert self.data is not None
            return _split(self.data, self.lengths)
        rooms = [_room(length) for length in self.lengths]
        if self.nbytes < MAPPED_FROM:
            _read(self.segment.fd, rooms, self.offset)
        else:
            _fill(rooms, mappings.stretch(self.segment.fd, self.offset, self.nbytes))
        return rooms

    def bytes(self) -> bytes:
        """All parts in one."""
        return b"".join(self.frames())


def _split(data: Buffer, lengths: tuple[int, ...]) -> list[Buffer]:
    if len(lengths) == 1:
        return [data]
    frames: list[Buffer] = []
    start = 0
    for length in lengths:
        frames.append(bytearray(data[start : start + length]) if frames else data[:length])
        start += length
    return frames


def _room(length: int) -> Buffer:
    """Writable memory; from numpy where it is loaded, since it need not be cleared first."""
    numpy = sys.modules.get("numpy")
    if numpy is None or length < OUT_OF_BAND:
        return bytearray(length)
    return memoryview(numpy.empty(length, numpy.uint8))


def _fill(rooms: list[Buffer], data: memoryview) -> None:
    start = 0
    for room in rooms:
        memoryview(room)[:] = data[start : start + len(room)]
        start += len(room)


def _read(fd: int, rooms: list[Buffer], offset: int) -> None:
    views = [memoryview(room) for room in rooms if len(room)]
    while views:
        count = os.preadv(fd, views[:512], offset)
        if count == 0:
            raise PayloadError("a segment of shared memory is shorter than announced")
        offset += count
        while views and count >= len(views[0]):
            count -= len(views.pop(0))
        if count:
            views[0] = views[0][count:]


def pack(value: Any) -> Parts:
    """The parts of a value.

    Raises:
        PayloadError: it cannot be pickled; says which part of it.
    """
    buffers: list[Buffer] = []

    def outOfBand(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    try:
        first = pickle.dumps(value, 5, buffer_callback=outOfBand)
    except Exception:
        buffers.clear()
        first = _packHard(value, outOfBand)
    return Parts([first, *buffers])


def _packHard(value: Any, outOfBand: Any) -> bytes:
    """Packs what only cloudpickle can, such as functions and classes made at run time."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value, 5, buffer_callback=outOfBand))
    except Exception as error:
        raise PayloadError(f"{explain(value)} cannot be pickled: {error}") from error


def unpack(frames: Sequence[Buffer]) -> Any:
    """The value of parts."""
    return pickle.loads(frames[0], buffers=frames[1:])


def readOnce(payload: Any) -> Any:
    """What can be unpacked and kept without being read twice; parts that values would share memory with are not."""
    if type(payload) is not Blob or payload.segment is None or len(payload.lengths) > 1:
        return payload
    return Blob(payload.lengths, None, 0, payload.frames()[0])


def explain(value: Any, depth: int = 6) -> str:
    """Names the innermost part of a value that cannot be pickled."""
    path = type(value).__name__ if not isinstance(value, (list, tuple)) or len(value) != 1 else ""
    if not path:
        value = value[0]
        path = type(value).__name__
    for _ in range(depth):
        found = next(((name, part) for name, part in _inside(value) if not _picklable(part)), None)
        if found is None:
            break
        path, value = path + found[0], found[1]
    return path if path == type(value).__name__ else f"{path} ({type(value).__name__})"


def _inside(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{number}]", part) for number, part in enumerate(value)]
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]


def _picklable(value: Any) -> bool:
    import cloudpickle

    try:
        cloudpickle.dumps(value, 5)
    except Exception:
        return False
    return True
