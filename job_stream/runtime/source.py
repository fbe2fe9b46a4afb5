"""The initial work: parts that every process has by fork, and iterators that are pulled little by little."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable, Iterator
from types import FunctionType, GeneratorType
from typing import Any

from ..engine.backlog import Part
from ..engine.messages import RangeSlice, SourceSlice
from ..errors import PayloadError, PlanError
from ..memory.payload import pack

__all__ = ["InitialWork", "Zipped", "fresh"]

SAMPLE = 16
REMEDY = "give each run a new one, or a list"
_SEQUENCES = (list, tuple, range, str, bytes, bytearray, array.array)


class Zipped:
    """Several sequences side by side; element i is the tuple of their elements i."""

    def __init__(self, sequences: tuple[Any, ...]) -> None:
        self._sequences = sequences
        self._length = min(map(len, sequences))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, span: slice) -> list[Any]:
        return list(zip(*(sequence[span] for sequence in self._sequences), strict=False))


def is_sequence(value: Any) -> bool:
    """Whether elements can be counted out without asking for them one by one."""
    if type(value) in _SEQUENCES or type(value) is Zipped:
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and value.ndim > 0


def fresh(work: Any, is_again: bool) -> Any:
    """The initial work of a run; ``is_again``: another run has had it.

    Raises:
        PlanError: it is an iterator, of which that run has left nothing, or nobody knows what.
    """
    if type(work) is GeneratorType and work.gi_frame is None:
        raise PlanError(f"the initial work is a generator that has come to its end already: {REMEDY}")
    if not is_again or not hasattr(type(work), "__next__"):
        return work
    if type(getattr(type(work), "__iter__", None)) is FunctionType:  # written by the user, and may begin anew
        return _Anew(work)
    raise PlanError(f"the initial work is a {type(work).__name__}, which a run before this one has used up: {REMEDY}")


class _Anew:
    """An iterator of the user's that another run has had; it must give something again."""

    def __init__(self, work: Any) -> None:
        self._work = work

    def __iter__(self) -> Iterator[Any]:
        is_empty = True
        for item in self._work:
            is_empty = False
            yield item
        if not is_empty:
            return
        kind = type(self._work).__name__
        raise PlanError(f"the initial work is a {kind}, of which a run before this one has left nothing: {REMEDY}")


class InitialWork:
    """The parts of the initial work, in order."""

    def __init__(self, parts: list[Any]) -> None:
        self._parts: list[Any] = [part if is_sequence(part) else _Pulled(part) for part in parts]

    def __getstate__(self) -> dict[str, Any]:
        """As it is sent to workers that are no forks: what is pulled is pulled here."""
        return {"_parts": [() if isinstance(part, _Pulled) else part for part in self._parts]}

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the engine needs to know."""
        return tuple(Part(None if isinstance(part, _Pulled) else len(part)) for part in self._parts)

    def parts_for(self, ranks: int) -> tuple[Part, ...]:
        """The same with the size of an element, where elements may have to travel."""
        if ranks == 1:
            return self.parts
        return tuple(part._replace(item_bytes=_item_bytes(data) if part.length else 0, counted=isinstance(data, range))
                     for part, data in zip(self.parts, self._parts, strict=True))  # fmt: skip

    def values_of(self, payload: SourceSlice | RangeSlice) -> Any:
        """The values that a counted payload stands for; every process of rank 0 has the parts."""
        if type(payload) is RangeSlice:
            return range(*payload)
        part, start, stop = payload
        return self._parts[part][start:stop]

    @property
    def sequences(self) -> list[Any]:
        """The parts that every process has."""
        return [part for part in self._parts if not isinstance(part, _Pulled)]

    def iterators(self) -> list[Iterator[Any]]:
        """The iterators of the parts that are pulled, in order, made when they are needed."""
        return [iter(part) for part in self._parts if isinstance(part, _Pulled)]

    @property
    def is_bound(self) -> bool:
        """Whether a part is pulled that no other thread may use."""
        return any(isinstance(part, _Pulled) and part.is_bound for part in self._parts)

    def left(self, part: int, done: int) -> tuple[list[Iterator[Any]], int]:
        """The iterators that a run still needs that has come to item number ``done`` of a part; and how many items of
        the first one it has had."""
        iterators = [iter(data) for data in self._parts[part:] if isinstance(data, _Pulled)]
        begun = part < len(self._parts) and isinstance(self._parts[part], _Pulled)
        return iterators, done if begun else 0

    def __iter__(self) -> Iterator[Any]:
        for part in self._parts:
            yield from part


def _item_bytes(sequence: Any) -> int:
    """Bytes of an element on its way, from a sample."""
    if isinstance(sequence, range):
        return 0
    if hasattr(sequence, "nbytes"):
        return int(sequence.nbytes) // len(sequence)
    sample = sequence[:: max(1, len(sequence) // SAMPLE)] if type(sequence) is not Zipped else sequence[:SAMPLE]
    try:
        return pack(sample[:SAMPLE]).nbytes // min(len(sample), SAMPLE)
    except PayloadError:
        return 0


class _Pulled:
    """An iterable that has to be asked for its elements."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    @property
    def is_bound(self) -> bool:
        sqlite3 = sys.modules.get("sqlite3")
        return sqlite3 is not None and isinstance(self._iterable, sqlite3.Cursor)
