"""A tree of plain data as bytes, for files: a msgpack envelope, and the bytes of payloads behind it.

The tree may hold the tuples of the engine (by name, with the names of their fields, since a file outlives the version
that wrote it), plain tuples, lists, dicts, numbers, text, bytes and payloads. A payload that stands in several places
is written once. Nothing is pickled or unpickled here: payloads are bytes, and stay so.

``dump`` reads shared memory bit by bit as it goes, so that it needs little memory of its own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import msgpack

from ..engine import asking, backlog, capture, messages, outcomes, payloads, scopes, stores
from ..errors import EngineError, PayloadError
from ..memory.payload import Blob, Buffer, Parts
from .trust import CheckpointError

__all__ = ["chunks_of", "dump", "load"]

CHUNK_BYTES = 1 << 20
_SIZE = struct.Struct("<Q")
_TUPLE, _LIST, _DICT, _PAYLOAD, _LARGE_INT, _FIRST_KIND = range(6)
_LEAVES = frozenset((int, str, bytes, bool, float, type(None)))


def _tuples_of(*modules: ModuleType) -> dict[str, type]:
    """The named tuples that modules define, by name."""
    found: dict[str, type] = {}
    for module in modules:
        for name, kind in vars(module).items():
            if isinstance(kind, type) and hasattr(kind, "_fields") and kind.__module__ == module.__name__:
                assert name not in found, f"two kinds are named {name}"
                found[name] = kind
    return found


_KINDS = _tuples_of(messages, outcomes, payloads, asking, backlog, scopes, stores, capture)


def dump(state: Any) -> Iterator[Buffer]:
    """The bytes of a tree, in chunks.

    Raises:
        EngineError: there is something in it that cannot be in a file.
    """
    plainer = _Plainer()
    tree = plainer.plain(state)
    kinds = [[kind.__name__, list(_fields_of(kind))] for kind in plainer.kinds]
    lengths = [_lengths_of(payload) for payload in plainer.payloads]
    envelope: bytes = msgpack.packb([kinds, lengths, tree], default=_large_int)
    yield _SIZE.pack(len(envelope))
    yield envelope
    for payload in plainer.payloads:
        yield from chunks_of(payload)


def load(read: Callable[[int], bytes]) -> Any:
    """The tree again, each payload as a ``Blob`` in this process's memory.

    Args:
        read: gives exactly so many of the next bytes.

    Raises:
        CheckpointError: it holds what this version does not know.
    """
    (size,) = _SIZE.unpack(read(_SIZE.size))
    try:
        kinds, lengths, tree = msgpack.unpackb(read(size), use_list=False)
        payloads = [Blob(each, None, 0, read(sum(each))) for each in lengths]
        return _Restorer([_kind_of(name, fields) for name, fields in kinds], payloads).restore(tree)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"what is in it makes no sense to this version of job_stream: {error!r}") from error


def chunks_of(payload: Blob | Parts) -> Iterator[Buffer]:
    """The bytes of a payload, wherever they lie."""
    if isinstance(payload, Parts):
        yield from payload.frames
    elif payload.segment is None:
        assert payload.data is not None
        yield payload.data
    else:
        yield from _segment_chunks(payload.segment.fd, payload.offset, payload.nbytes)


def _segment_chunks(fd: int, offset: int, left: int) -> Iterator[bytes]:
    while left:
        chunk = os.pread(fd, min(left, CHUNK_BYTES), offset)
        if not chunk:
            raise PayloadError("a segment of shared memory is shorter than announced")
        yield chunk
        offset += len(chunk)
        left -= len(chunk)


def _lengths_of(payload: Blob | Parts) -> list[int]:
    return [len(frame) for frame in payload.frames] if isinstance(payload, Parts) else list(payload.lengths)


def _fields_of(kind: Any) -> tuple[str, ...]:
    fields: tuple[str, ...] = kind._fields
    return fields


def _kind_of(name: str, fields: tuple[str, ...]) -> type:
    """The kind that a file speaks of."""
    kind = _KINDS.get(name)
    if kind is None or _fields_of(kind) != fields:
        raise CheckpointError(f"its records of kind {name} are not those of this version of job_stream: resume with "
                              "the version that wrote it, or remove it to begin anew")  # fmt: skip
    return kind


def _large_int(value: Any) -> list[Any]:
    """A number beyond 64 bits; msgpack asks for everything else that it cannot write, too."""
    if type(value) is not int:
        raise EngineError(f"{type(value).__name__} cannot be in a checkpoint")
    return [_LARGE_INT, str(value)]


class _Plainer:
    """Turns a tree into lists that begin with a code; remembers which kinds and payloads it met."""

    def __init__(self) -> None:
        self.kinds: dict[type, int] = {}
        self.payloads: list[Blob | Parts] = []
        self._numbers: dict[int, int] = {}

    def plain(self, value: Any) -> Any:
        kind = type(value)
        if kind in _LEAVES:
            return value
        if kind is Blob or kind is Parts:
            return [_PAYLOAD, self._number(value)]
        if kind is dict:
            value = (part for item in value.items() for part in item)
        plain = self.plain
        return [self._code(kind), *[part if type(part) in _LEAVES else plain(part) for part in value]]

    def _code(self, kind: type) -> int:
        code = _CONTAINERS.get(kind)
        if code is not None:
            return code
        if kind not in self.kinds:
            if _KINDS.get(kind.__name__) is not kind:
                raise EngineError(f"{kind.__name__} cannot be in a checkpoint")
            self.kinds[kind] = _FIRST_KIND + len(self.kinds)
        return self.kinds[kind]

    def _number(self, payload: Blob | Parts) -> int:
        number = self._numbers.setdefault(id(payload), len(self.payloads))
        if number == len(self.payloads):
            self.payloads.append(payload)
        return number


_CONTAINERS: dict[type, int] = {tuple: _TUPLE, list: _LIST, dict: _DICT}


class _Restorer:
    """Turns what ``_Plainer`` made back into a tree."""

    def __init__(self, kinds: list[type], payloads: list[Blob]) -> None:
        self._kinds = kinds
        self._payloads = payloads

    def restore(self, value: Any) -> Any:
        if type(value) is not tuple:
            return value
        code = value[0]
        if code == _PAYLOAD:
            return self._payloads[value[1]]
        if code == _LARGE_INT:
            return int(value[1])
        restore = self.restore
        parts = [restore(part) if type(part) is tuple else part for part in value[1:]]
        if code >= _FIRST_KIND:
            return self._kinds[code - _FIRST_KIND]._make(parts)
        if code == _TUPLE:
            return tuple(parts)
        return parts if code == _LIST else dict(zip(parts[::2], parts[1::2], strict=True))
