"""Messages as bytes: msgpack, each tuple behind the code of its kind.

Payloads ride along: small ones inside the message, large ones in segments whose descriptors are passed beside it. The
codec turns ``Parts`` into blobs on the way out, so nobody else needs to know where the bytes lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgpack

from ..errors import EngineError
from ..ground.limits import are_files_scarce, files_for_one
from .mappings import mappings
from .payload import Blob, MemorySegment, Parts

__all__ = ["INLINE_BYTES", "MESSAGE_FDS", "Codec", "Kinds", "Message", "RankCodec"]

Message = tuple[Any, ...]
"""A named tuple, of the kinds that a codec is made for."""

INLINE_BYTES = 32 << 10
MESSAGE_FDS = 200
"""Descriptors that go with a message at most; fewer where few files may be open, since they arrive all at once."""


class Kinds:
    """The kinds of messages that two sides have agreed on, each with the code that stands for it.

    Args:
        kinds: the kinds; both sides give the same, in the same order.
    """

    def __init__(self, kinds: Iterable[type]) -> None:
        self.kinds = tuple(kinds)
        self.codes = {kind: code for code, kind in enumerate(self.kinds, _FIRST)}


_TUPLE, _BLOB, _FIRST = 0, 1, 2


class Codec:
    """Packs and unpacks messages.

    Args:
        kinds: what messages there are.
        write: copies parts to a segment; gives its number and descriptor.
        release: called with (owner, number, fd) when a received segment is no longer needed.
    """

    def __init__(
        self, kinds: Kinds, write: Callable[[list[Any]], tuple[int, int]], release: Callable[[int, int, int], None]
    ) -> None:
        self._codes, self._kinds = kinds.codes, kinds.kinds
        self._write = write
        self._release = release

    def encode(self, message: Message) -> tuple[bytes, list[int]]:
        """The bytes of a message and the descriptors that go with it."""
        outward = _Outward(self._codes)
        body = outward.plain(message)
        if outward.large:
            outward.segments[0] = self._write(outward.large)
        data = _dumps([body, [number for number, _ in outward.segments]])
        fds = [fd for _, fd in outward.segments if fd >= 0]
        if len(data) > 2 * INLINE_BYTES:
            number, fd = self._write([data])
            return _dumps([number, len(data)]), [fd, *fds]
        return data, fds

    def decode(self, data: bytes, fds: list[int], owner: int) -> Any:
        """The message of bytes and descriptors; ``owner`` wrote its segments."""
        body, numbers = _loads(data)
        waiting = iter(fds)
        if isinstance(body, int):
            whole = MemorySegment(next(waiting), owner, body, self._release)
            body, numbers = _loads(Blob((numbers,), whole, 0, None).bytes())
        segments = [
            None if number == _NO_SEGMENT else MemorySegment(next(waiting), owner, number, self._release)
            for number in numbers
        ]
        return _restore(body, segments, self._kinds)


class RankCodec:
    """Packs and unpacks messages between ranks: large payloads follow as one body.

    Args:
        kinds: what messages there are.
    """

    def __init__(self, kinds: Kinds) -> None:
        self._codes, self._kinds = kinds.codes, kinds.kinds

    def encode(self, message: Message) -> tuple[bytes, list[Any]]:
        """The head of a message and the buffers that make its body, where they lie."""
        outward = _ForRank(self._codes)
        return _dumps(outward.plain(message)), outward.large

    def decode(self, head: bytes, body: Any) -> Any:
        """The message; ``body`` is the segment or bytes that its body was received into.

        Raises:
            EngineError: this is no message of this version.
        """
        try:
            message = _restore(_loads(head), [body], self._kinds)
        except Exception as error:
            raise EngineError(f"{len(head)} bytes that are no message: {error!r:.200}") from error
        if type(message) not in self._codes:
            raise EngineError(f"{len(head)} bytes that are no message, but {type(message).__name__}")
        return message


_NO_SEGMENT = -1


class _Outward:
    """One message being written: the segments it refers to, and the parts that wait for one (number 0)."""

    def __init__(self, codes: dict[type, int]) -> None:
        self._codes = codes
        self.segments: list[tuple[int, int]] = [(_NO_SEGMENT, -1)]
        self.large: list[Any] = []
        self._size = 0

    def plain(self, value: Any) -> Any:
        kind = type(value)
        if kind in _LEAVES:
            return value
        code = self._codes.get(kind)
        if code is not None or kind is tuple:
            return [code or _TUPLE, *map(self.plain, value)]
        if kind is Parts:
            return self._parts(value)
        if kind is Blob:
            return self._blob(value)
        raise EngineError(f"{kind.__name__} cannot travel in a message")

    def _parts(self, parts: Parts) -> list[Any]:
        lengths = [len(frame) for frame in parts.frames]
        if parts.nbytes <= INLINE_BYTES and not self.large:
            return [_BLOB, lengths, _NO_SEGMENT, 0, b"".join(parts.frames)]
        offset = self._size
        self.large += parts.frames
        self._size += parts.nbytes
        return [_BLOB, lengths, 0, offset, None]

    def _blob(self, blob: Blob) -> list[Any]:
        if blob.segment is None:
            return [_BLOB, blob.lengths, _NO_SEGMENT, 0, blob.data]
        entry = (blob.segment.number, blob.segment.fd)
        if entry not in self.segments:
            if len(self.segments) > min(MESSAGE_FDS, files_for_one()):
                return self._parts(Parts(blob.frames()))
            self.segments.append(entry)
        return [_BLOB, blob.lengths, self.segments.index(entry), blob.offset, None]


class _ForRank(_Outward):
    """A message that leaves the machine: there is no passing of descriptors."""

    def _blob(self, blob: Blob) -> list[Any]:
        if blob.segment is None:
            return [_BLOB, blob.lengths, _NO_SEGMENT, 0, blob.data]
        offset = self._size
        self.large.append(mappings.stretch(blob.segment.fd, blob.offset, blob.nbytes))
        self._size += blob.nbytes
        return [_BLOB, blob.lengths, 0, offset, None]


_LEAVES = frozenset((int, str, bytes, bool, float, type(None)))


def _restore(value: Any, segments: list[Any], kinds: tuple[type, ...]) -> Any:
    if type(value) is not tuple:
        return value
    code = value[0]
    if code == _BLOB:
        _, lengths, index, offset, data = value
        segment = None if index == _NO_SEGMENT else segments[index]
        if isinstance(segment, bytearray):
            return Blob(lengths, None, 0, bytes(segment[offset : offset + sum(lengths)]))
        blob = Blob(lengths, segment, offset, data)
        return Blob(lengths, None, 0, blob.bytes()) if segment and are_files_scarce(segment.fd) else blob
    fields = [_restore(field, segments, kinds) for field in value[1:]]
    return tuple(fields) if code == _TUPLE else kinds[code - _FIRST](*fields)


def _dumps(value: Any) -> bytes:
    data: bytes = msgpack.packb(value, unicode_errors="surrogatepass")  # texts of errors may name odd files
    return data


def _loads(data: bytes) -> Any:
    return msgpack.unpackb(data, use_list=False, unicode_errors="surrogatepass")
