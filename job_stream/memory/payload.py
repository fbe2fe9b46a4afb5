"""Values as bytes: pickle protocol 5, with large buffers kept out of the pickle.

``pack`` makes *parts*: the pickle first, then the buffers of large arrays, which are not copied. ``unpack`` takes them
back. A ``Blob`` is packed values on their way: the parts lie in the message itself or, when they are large, in a
segment of shared memory. A ``Live`` payload holds the values themselves, between threads of one process.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import PayloadError
from ..ground.texts import said, shorten
from ..values import is_unrun
from .mappings import mappings

__all__ = ["Blob", "Live", "MemorySegment", "Parts", "by_value", "pack", "read_once", "unpack"]

OUT_OF_BAND = 16 << 10
MAPPED_FROM = 1 << 20
"""Payloads from this size on are copied from memory that stays mapped."""
PARTS_DEEP = 6
FEW = 64
MESSAGE_CHARACTERS = 1000
Buffer = bytes | bytearray | memoryview


class Parts:
    """Packed values in this process's own memory."""

    __slots__ = ("frames", "nbytes")

    def __init__(self, frames: list[Buffer]) -> None:
        self.frames = frames
        self.nbytes = sum(len(frame) for frame in frames)


class Live:
    """Values that have not left the process; ``nbytes``: about how much they hold, as far as somebody has looked."""

    __slots__ = ("nbytes", "values")

    def __init__(self, values: Any, nbytes: int = 0) -> None:
        self.values = values
        self.nbytes = nbytes


class MemorySegment:
    """A stretch of shared memory that somebody else wrote; ``release`` is called when nobody here needs it."""

    __slots__ = ("_owner", "_process", "_release", "fd", "number")

    def __init__(self, fd: int, owner: int, number: int, release: Callable[[int, int, int], None]) -> None:
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

    def __init__(self, lengths: Sequence[int], segment: MemorySegment | None, offset: int, data: Buffer | None) -> None:
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

    def unpacked(self) -> Any:
        """The values. A large pickle is read from where it lies: nothing refers to it afterwards."""
        if self.segment is None or self.nbytes < MAPPED_FROM:
            return unpack(self.frames())
        data, first = mappings.stretch(self.segment.fd, self.offset, self.nbytes), self.lengths[0]
        rooms = [_room(length) for length in self.lengths[1:]]
        _fill(rooms, data[first:])
        return pickle.loads(data[:first], buffers=rooms)

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
    first, buffers = pickled(value, _pack_hard)
    return Parts([first, *[buffer.raw() for buffer in buffers]])


def pickled(
    value: Any, hard: Callable[[Any, Callable[[pickle.PickleBuffer], bool]], bytes]
) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """A pickle, and the large buffers that are not in it, without a copy; ``hard`` is for what pickle alone refuses."""
    buffers: list[pickle.PickleBuffer] = []

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < OUT_OF_BAND:
            return True
        buffers.append(buffer)
        return False

    try:
        first = pickle.dumps(value, 5, buffer_callback=out_of_band)
    except Exception:
        buffers.clear()
        first = hard(value, out_of_band)
    return first, buffers


def _pack_hard(value: Any, out_of_band: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    """Packs what pickle alone refuses, such as functions and classes made at run time."""
    from .byvalue import dumps  # loads cloudpickle

    part, path = value, ""
    try:
        if type(value) is list and len(value) > FEW:  # one that cannot be pickled at all is known sooner in this way
            number = _first_not_plain(value)
            part, path = value[number], f"list[{number}]"
            dumps(part, _drop)
            part, path = value, ""
        return dumps(value, out_of_band)
    except Exception as error:
        why = said(error, MESSAGE_CHARACTERS)
        raise PayloadError(f"{explain(part, path)} cannot be pickled: {why}{_way_out(value)}") from error


def _way_out(value: Any) -> str:
    """What to do about values that have not run yet."""
    parts = value if type(value) is list else [value]
    return "; return Multiple(...) of a generator, and await a coroutine" if any(map(is_unrun, parts)) else ""


def by_value(what: Any) -> bytes:
    """A class or function itself, for whoever does not have it."""
    from . import byvalue  # loads cloudpickle

    return byvalue.by_value(what)


def unpack(frames: Sequence[Buffer]) -> Any:
    """The value of parts."""
    return pickle.loads(frames[0], buffers=frames[1:])


def read_once(payload: Any) -> Any:
    """What can be unpacked and kept without being read twice; parts that values would share memory with are not."""
    if type(payload) is not Blob or payload.segment is None or len(payload.lengths) > 1:
        return payload
    return Blob(payload.lengths, None, 0, payload.frames()[0])


# what cannot be packed ------------------------------------------------------------------------------------------------


def explain(value: Any, path: str = "") -> str:
    """Names the innermost part of a value that cannot be pickled; ``path``: where the value is found."""
    if not path and type(value) in (list, tuple) and len(value) == 1:
        value = value[0]
    path = path or type(value).__name__
    for _ in range(PARTS_DEEP):
        parts, names = _inside(value)
        number = _first_unpackable(parts)
        if number is None:
            break
        path, value = path + _part_name(value, names, number), parts[number]
    return path if path == type(value).__name__ else f"{path} ({type(value).__name__})"


def _inside(value: Any) -> tuple[list[Any], list[Any]]:
    """The parts of a value, and what they are called; the second list is empty where that is their number."""
    kind = type(value)
    if issubclass(kind, dict):
        return list(dict.values(value)), list(value)
    if issubclass(kind, (list, tuple, set, frozenset)):
        return list(value), []
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except Exception:
        return [], []
    return list(attributes.values()), list(attributes)


def _part_name(value: Any, names: list[Any], number: int) -> str:
    if not names:
        return f"[{number}]"
    return f"[{shorten(names[number], 80)}]" if issubclass(type(value), dict) else f".{names[number]}"


def _first_unpackable(parts: list[Any]) -> int | None:
    """The number of the first part that cannot be pickled; None: all can be.

    By halves, with pickle; the rest is left to cloudpickle, which is slow, where only few parts are left.
    """
    waiting = [(0, len(parts))]
    while waiting:
        start, end = waiting.pop()
        if _is_plain(parts[start:end]):
            continue
        if end - start > FEW:
            middle = (start + end) // 2
            waiting += [(middle, end), (start, middle)]
            continue
        if not _is_packable(parts[start:end]):
            bad = next((number for number in range(start, end) if not _is_packable(parts[number])), None)
            if bad is not None:
                return bad
    return None


def _first_not_plain(values: list[Any]) -> int:
    """The number of the first value that pickle refuses; one of them does."""
    start, end = 0, len(values)
    while end - start > 1:
        middle = (start + end) // 2
        start, end = (middle, end) if _is_plain(values[start:middle]) else (start, middle)
    return start


def _is_plain(value: Any) -> bool:
    try:
        pickle.dumps(value, 5, buffer_callback=_drop)
    except Exception:
        return False
    return True


def _is_packable(value: Any) -> bool:
    from .byvalue import dumps  # loads cloudpickle

    try:
        dumps(value, _drop)
    except Exception:
        return False
    return True


def _drop(buffer: pickle.PickleBuffer) -> bool:
    return False
